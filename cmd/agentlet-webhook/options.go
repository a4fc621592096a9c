package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/cmd/internal/consulflags"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/internal/logs"
)

// Sources of the serving certificate.
const (
	certsSelfSigned = "self-signed"
	certsSecret     = "secret"
)

// Values of the flag for who binds the service accounts of injected pods.
const (
	grantsAuto = "auto"
	grantsNone = "none"
)

// options are the parsed flags. complete derives further values, and validate checks everything at once.
type options struct {
	listen, metricsListen string
	shutdownDelay         time.Duration
	clientCA              string

	injector   injector.Config
	pullPolicy string
	defaults   []string // key=value
	dialects   []string

	certs, certSecret    string
	keepCABundle         bool
	caSecret             string
	namespace, service   string
	webhookConfiguration string
	// validatingConfiguration is empty if workloads are not validated.
	validatingConfiguration string

	grants                  string
	grantBinding, grantRole string
	grantPolicies           []string
	excludedNamespaces      []string

	logFormat, logLevel string
	level               slog.Level
}

func defaultOptions() *options {
	return &options{
		listen: ":9443", metricsListen: ":8080", shutdownDelay: 5 * time.Second,
		certs: certsSelfSigned, certSecret: "agentlet-webhook-tls", keepCABundle: true, caSecret: "agentlet-webhook-ca",
		namespace: os.Getenv("POD_NAMESPACE"), service: "agentlet", webhookConfiguration: "agentlet",
		grants: grantsNone, grantBinding: "agentlet-pods", grantRole: "agentlet-pod",
		grantPolicies: []string{"agentlet-own-pod-gate", "agentlet-own-pod-events"},
		logFormat:     logs.JSON, logLevel: "info",
	}
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.listen, "listen", o.listen, "address of the webhook (TLS)")
	flags.StringVar(&o.metricsListen, "metrics-listen", o.metricsListen, "address of /livez, /readyz and /metrics (plain HTTP)")
	flags.StringVar(&o.clientCA, "client-ca", o.clientCA,
		"file with certificates (PEM), of which one has to have signed what clients of --listen show; empty: they need to show nothing")
	flags.DurationVar(&o.shutdownDelay, "shutdown-delay", o.shutdownDelay,
		"how long requests are still taken after SIGTERM, while /readyz says 503")

	flags.StringVar(&o.injector.Image, "image", o.injector.Image, "image of the agentlet that is added to pods (required)")
	flags.StringVar(&o.pullPolicy, "image-pull-policy", o.pullPolicy,
		"its pull policy: Always, IfNotPresent or Never; empty: Kubernetes' default")
	flags.StringSliceVar(&o.injector.ImagePullSecrets, "image-pull-secrets", nil,
		"names of Secrets in the pods' namespaces that its image is pulled with")
	flags.StringVar((*string)(&o.injector.RunAsUser), "run-as-user", string(injector.RunAsAuto),
		"user and group of agentlets and mesh proxies: a number; none leaves both out; auto is none on OpenShift, and 65532 elsewhere")
	consulflags.Add(flags, &o.injector)
	flags.StringVar((*string)(&o.injector.SecurityContext), "security-context", "",
		`fields of the agentlets' security context in JSON, over those that they have: {"seLinuxOptions":{"type":"agentlet_t"}}`)
	flags.StringVar(&o.injector.ClusterName, "cluster-name", o.injector.ClusterName,
		"value of the meta k8s-cluster of every service; empty: none")
	flags.StringArrayVar(&o.defaults, "default", nil,
		"key=value: the installation's default for an annotation, without its prefix (drain-delay=10s); repeatable")

	flags.StringVar(&o.injector.AllowedServices, "allowed-services", "*",
		"comma-separated globs of the service names that pods may register where their namespace has no annotation allowed-services; !GLOB denies")
	flags.StringVar(&o.injector.AllowedTags, "allowed-tags", "*",
		"comma-separated globs of the tags that pods may register where their namespace has no annotation allowed-tags; !GLOB denies")

	flags.StringSliceVar(&o.dialects, "dialect", nil,
		"another system whose pod annotations are read, too: katalog-sync or consul-k8s; repeatable, the one that counts first")

	flags.StringVar(&o.certs, "certs", o.certs,
		"where the serving certificate comes from: self-signed (own authority in a Secret) or secret (a certificate that somebody else keeps)")
	flags.StringVar(&o.certSecret, "cert-secret", o.certSecret, "with --certs=secret: Secret with tls.crt, tls.key and ca.crt")
	flags.BoolVar(&o.keepCABundle, "keep-ca-bundle", o.keepCABundle,
		"with --certs=secret: keep the configurations' caBundle equal to the Secret's ca.crt; false: somebody else does")
	flags.StringVar(&o.caSecret, "ca-secret", o.caSecret, "with --certs=self-signed: Secret of the authority")
	flags.StringVar(&o.webhookConfiguration, "webhook-configuration", o.webhookConfiguration,
		"MutatingWebhookConfiguration whose caBundle is kept")
	flags.StringVar(&o.validatingConfiguration, "validating-webhook-configuration", o.validatingConfiguration,
		"ValidatingWebhookConfiguration whose caBundle is kept; empty: none")
	flags.StringVar(&o.namespace, "namespace", o.namespace, "namespace of the webhook's service (default $POD_NAMESPACE)")
	flags.StringVar(&o.service, "service", o.service, "name of the webhook's service")

	flags.StringVar(&o.grants, "grants", o.grants,
		"who binds the service accounts of injected pods to their role: auto (this webhook) or none (somebody else)")
	flags.StringVar(&o.grantBinding, "grant-binding", o.grantBinding,
		"with --grants=auto: RoleBinding that is kept in each namespace with injected pods")
	flags.StringVar(&o.grantRole, "grant-role", o.grantRole, "with --grants=auto: ClusterRole that it binds to")
	flags.StringSliceVar(&o.grantPolicies, "grant-policies", o.grantPolicies,
		"with --grants=auto: ValidatingAdmissionPolicies, and their bindings, without each of which nothing is granted")
	flags.StringSliceVar(&o.excludedNamespaces, "excluded-namespaces", nil,
		"with --grants=auto: namespaces that are never granted, whatever their label says")

	flags.StringVar(&o.logFormat, "log-format", o.logFormat, "text or json; of the agentlets, too")
	flags.StringVar(&o.logLevel, "log-level", o.logLevel, "debug, info, warn or error")
}

// check completes and validates the options, and returns all errors.
func (o *options) check() error { return errors.Join(o.complete(), o.validate()) }

// complete derives values from the flags. It returns an error for each flag that can't be parsed.
func (o *options) complete() error {
	var problems []error
	o.injector.ImagePullPolicy = corev1.PullPolicy(o.pullPolicy)
	o.injector.LogFormat = o.logFormat
	o.injector.Defaults = registration.Defaults{}
	for _, pair := range o.defaults {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			problems = append(problems, fmt.Errorf("--default %q: want key=value", pair))
			continue
		}
		o.injector.Defaults[key] = value
	}
	o.injector.Dialects = dialect.Named(o.dialects)
	if err := o.level.UnmarshalText([]byte(o.logLevel)); err != nil {
		problems = append(problems, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.logLevel))
	}
	return errors.Join(problems...)
}

// validate checks the completed options. The injector checks what concerns pods; its errors name these flags.
func (o *options) validate() error {
	var problems []error
	wrong := func(flag, value, want string) {
		problems = append(problems, fmt.Errorf("--%s %q: want %s", flag, value, want))
	}
	type pair struct{ flag, value string }
	for _, address := range []pair{{"listen", o.listen}, {"metrics-listen", o.metricsListen}} {
		if _, _, err := net.SplitHostPort(address.value); err != nil {
			wrong(address.flag, address.value, "host:port or :port")
		}
	}
	if o.shutdownDelay < 0 {
		wrong("shutdown-delay", o.shutdownDelay.String(), "a duration of 0 or more")
	}
	if _, err := injector.New(o.injector); err != nil {
		problems = append(problems, err)
	}
	names := []pair{{"namespace", o.namespace}, {"service", o.service}, {"webhook-configuration", o.webhookConfiguration}}
	if o.validatingConfiguration != "" {
		names = append(names, pair{"validating-webhook-configuration", o.validatingConfiguration})
	}
	switch o.certs {
	case certsSelfSigned:
		names = append(names, pair{"ca-secret", o.caSecret})
	case certsSecret:
		names = append(names, pair{"cert-secret", o.certSecret})
	default:
		wrong("certs", o.certs, certsSelfSigned+" or "+certsSecret)
	}
	switch o.grants {
	case grantsAuto:
		names = append(names, pair{"grant-binding", o.grantBinding}, pair{"grant-role", o.grantRole})
		if len(o.grantPolicies) == 0 {
			wrong("grant-policies", "", "the names of objects")
		}
		for _, policy := range o.grantPolicies {
			names = append(names, pair{"grant-policies", policy})
		}
		for _, namespace := range o.excludedNamespaces {
			names = append(names, pair{"excluded-namespaces", namespace})
		}
	case grantsNone:
	default:
		wrong("grants", o.grants, grantsAuto+" or "+grantsNone)
	}
	for _, name := range names {
		if len(validation.IsDNS1123Subdomain(name.value)) > 0 {
			wrong(name.flag, name.value, "the name of an object")
		}
	}
	return errors.Join(problems...)
}

// logger returns a logger with the format and level of the flags.
func (o *options) logger(to io.Writer) *slog.Logger { return logs.New(to, o.logFormat, o.level) }
