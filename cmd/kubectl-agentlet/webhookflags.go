package main

import (
	"fmt"
	"maps"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/cmd/internal/consulflags"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/cli/limits"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/openshift"
	"github.com/agentlet/agentlet/internal/version"
)

// webhookFlags are the webhook's flags that apply to every injection, with the same names and defaults.
type webhookFlags struct {
	config     injector.Config
	pullPolicy string
	defaults   []string // key=value
	dialects   []string
	// fromCluster uses the flags of the installed webhook where the user has set none.
	fromCluster bool
	// set holds these flags alone: no other flag of a command is the webhook's, even if one has the name.
	set *pflag.FlagSet
}

func newWebhookFlags() *webhookFlags {
	return &webhookFlags{config: injector.Config{
		Image: "agentlet/agentlet:" + version.Version,
	}, pullPolicy: string(corev1.PullIfNotPresent), set: pflag.NewFlagSet("installation", pflag.ContinueOnError)}
}

func (f *webhookFlags) addFlags(to *pflag.FlagSet) {
	flags := f.set
	defer func() { to.AddFlagSet(flags) }()
	flags.StringVar(&f.config.Image, "image", f.config.Image, "image of the agentlet")
	flags.StringVar(&f.pullPolicy, "image-pull-policy", f.pullPolicy, "pull policy of that image")
	flags.StringSliceVar(&f.config.ImagePullSecrets, "image-pull-secrets", nil,
		"names of Secrets in the pods' namespaces that it is pulled with")
	flags.StringVar((*string)(&f.config.RunAsUser), "run-as-user", string(injector.RunAsAuto),
		"user and group of agentlets and mesh proxies: a number; none leaves both out; auto is none on OpenShift with --from-cluster, else 65532")
	consulflags.Add(flags, &f.config)
	flags.StringVar((*string)(&f.config.SecurityContext), "security-context", "",
		"fields of the agentlet's security context in JSON, over those that it has")
	flags.StringVar(&f.config.ClusterName, "cluster-name", "", "name of this cluster, in each service's meta")
	flags.StringVar(&f.config.AllowedServices, "allowed-services", "*",
		"comma-separated globs of the service names that pods may register; !GLOB denies")
	flags.StringVar(&f.config.AllowedTags, "allowed-tags", "*",
		"comma-separated globs of the tags that pods may register; !GLOB denies")
	flags.StringArrayVar(&f.defaults, "default", nil,
		"default for a pod annotation, as KEY=VALUE without the key's prefix; repeatable")
	flags.BoolVar(&f.fromCluster, "from-cluster", false,
		"take these settings, where they are not given, and the namespaces' annotations and labels from the installation in the cluster, and warn of their LimitRanges; without it no cluster is asked")
	flags.StringSliceVar(&f.dialects, "dialect", nil,
		"another system whose pod annotations are read, too: katalog-sync or consul-k8s; repeatable")
}

// anyProxy is a placeholder for the image of mesh proxies, which only an installation knows.
const anyProxy = "consul-and-envoy"

// decider returns a Decider with the webhook's decisions on pods of these namespaces.
func (f *webhookFlags) decider(command *cobra.Command, kube *kube, of []string) (manifests.Decider, error) {
	if !f.fromCluster {
		if f.config.Connect.Image == "" && f.config.ConsulTLS.CA == "" {
			f.config.Connect.Image = anyProxy
		}
		return f.injector()
	}
	client, err := kube.client()
	if err != nil {
		return nil, err
	}
	webhook, err := installation.Flags(command.Context(), client)
	if err != nil {
		return nil, fmt.Errorf("read the installation: %w", err)
	}
	if err := take(f.set, webhook); err != nil {
		return nil, fmt.Errorf("read the webhook's flags: %w", err)
	}
	if f.config.RunAsUser.Auto() {
		assigned, err := openshift.AssignsUsers(command.Context(), client.Discovery().RESTClient())
		if err != nil {
			return nil, err
		}
		if assigned {
			f.config.RunAsUser = injector.RunAsNone
		}
	}
	namespaces, err := installation.Namespaces(command.Context(), client, of)
	if err != nil {
		return nil, fmt.Errorf("read the installation: %w", err)
	}
	judge, err := f.injector()
	if err != nil {
		return nil, err
	}
	ranges, err := installation.LimitRanges(command.Context(), client, "")
	if err != nil && !apierrors.IsForbidden(err) { // who may not read them gets no warnings
		return nil, fmt.Errorf("read the installation: %w", err)
	}
	return inCluster{judge, namespaces, ranges}, nil
}

// take sets flags that the user has not set to the webhook's values. It ignores flags that only the webhook has.
func take(flags *pflag.FlagSet, webhook []string) error {
	given := map[string]bool{}
	flags.VisitAll(func(f *pflag.Flag) { given[f.Name] = f.Changed })
	for _, arg := range webhook {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if flags.Lookup(name) == nil || given[name] {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
	}
	return nil
}

// inCluster decides with the namespaces' annotations and labels in the cluster, and warns of their LimitRanges.
type inCluster struct {
	judge      *injector.Injector
	namespaces map[string]metav1.ObjectMeta
	ranges     map[string][]corev1.LimitRange
}

// Decide takes an annotation or label in the files before the cluster's, because it is newer, and keeps the others, as kubectl
// apply does.
func (c inCluster) Decide(request injector.Request) injector.Decision {
	namespace := c.namespaces[request.Namespace]
	request.NamespaceAnnotations = over(namespace.Annotations, request.NamespaceAnnotations)
	request.NamespaceLabels = over(namespace.Labels, request.NamespaceLabels)
	decision := c.judge.Decide(request)
	for _, container := range limits.Added(decision.Patch) {
		for _, refusal := range limits.Refused(container, c.ranges[request.Namespace]) {
			message := fmt.Sprintf("LimitRange %s of namespace %s: %s", refusal.LimitRange, request.Namespace, refusal.Message)
			if refusal.Remedy != "" {
				message += "; " + refusal.Remedy
			}
			decision.Warnings = append(decision.Warnings, registration.Warning{Field: "metadata.annotations", Message: message})
		}
	}
	return decision
}

// over returns the newer values, and the older ones of all other keys.
func over(older, newer map[string]string) map[string]string {
	merged := maps.Clone(older)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, newer)
	return merged
}

// injector returns the webhook's injector with this configuration.
func (f *webhookFlags) injector() (*injector.Injector, error) {
	f.config.ImagePullPolicy = corev1.PullPolicy(f.pullPolicy)
	f.config.Defaults = registration.Defaults{}
	for _, pair := range f.defaults {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("--default %q: must be KEY=VALUE", pair)
		}
		f.config.Defaults[key] = value
	}
	f.config.Dialects = dialect.Named(f.dialects)
	made, err := injector.New(f.config)
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	return made, nil
}
