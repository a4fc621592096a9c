package injector

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector/dialect"
)

// Config is the installation's configuration, the same for every pod.
type Config struct {
	// Image of the agentlet, and its pull policy (empty: Kubernetes' default).
	Image           string
	ImagePullPolicy corev1.PullPolicy
	// ImagePullSecrets are names of Secrets in the pods' own namespaces. Those that a pod doesn't name are added to it.
	ImagePullSecrets []string
	// RunAsUser of the agentlet, and of the mesh proxy.
	RunAsUser RunAsUser
	// ConsulPort and ConsulScheme of the node's Consul agent; the host is the node's IP.
	ConsulPort   int
	ConsulScheme string
	// ConsulTLS and ConsulACL are for the connection with it: its certificate, and the agentlet's token.
	ConsulTLS ConsulTLS
	ConsulACL ConsulACL
	// Connect is the mesh proxy for pods that request one.
	Connect Connect
	// SecurityContext of the agentlet.
	SecurityContext SecurityContext
	// LogFormat of the agentlets, text or json; empty: json.
	LogFormat string
	// ClusterName becomes the meta k8s-cluster; empty: none.
	ClusterName string
	// Defaults for keys of the contract, by the key without its prefix. Those that hold are handed on to the agentlet.
	Defaults registration.Defaults
	// AllowedServices and AllowedTags are comma-separated globs of the service names and tags that may be registered, for
	// namespaces without such an annotation; empty: all.
	AllowedServices, AllowedTags string
	// Dialects are the other systems whose pod annotations are read, too, in the order of precedence.
	Dialects []dialect.Dialect
}

// maxMetaValue is Consul's bound on a meta value, which the cluster's name becomes.
const maxMetaValue = 512

// flag is the path of an error: the flag of the webhook and of the plugin that sets this value.
func flag(name string) *field.Path { return field.NewPath("--" + name) }

func (c *Config) validate() (errs field.ErrorList) {
	if strings.TrimSpace(c.Image) == "" {
		errs = append(errs, field.Required(flag("image"), "the agentlet's image"))
	}
	errs = append(errs, validatePullPolicy(flag("image-pull-policy"), c.ImagePullPolicy)...)
	for i, name := range c.ImagePullSecrets {
		for _, wrong := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(flag("image-pull-secrets").Index(i), name, wrong))
		}
	}
	_, wrongUser := c.RunAsUser.id()
	errs = append(errs, wrongUser...)
	for _, wrong := range validation.IsValidPortNum(c.ConsulPort) {
		errs = append(errs, field.Invalid(flag("consul-port"), c.ConsulPort, wrong))
	}
	if c.ConsulScheme != "http" && c.ConsulScheme != "https" {
		errs = append(errs, field.NotSupported(flag("consul-scheme"), c.ConsulScheme, []string{"http", "https"}))
	}
	errs = append(errs, c.ConsulTLS.validate(c.ConsulScheme)...)
	errs = append(errs, c.ConsulACL.validate()...)
	errs = append(errs, c.validateConnect()...)
	errs = append(errs, c.SecurityContext.validate()...)
	if c.LogFormat != "" && c.LogFormat != "text" && c.LogFormat != "json" {
		errs = append(errs, field.NotSupported(flag("log-format"), c.LogFormat, []string{"text", "json"}))
	}
	if len(c.ClusterName) > maxMetaValue {
		errs = append(errs, field.TooLong(flag("cluster-name"), "", maxMetaValue))
	}
	_, wrong := c.allowed()
	errs = append(errs, wrong...)
	for i, d := range c.Dialects {
		if !slices.Contains(dialect.All(), d) {
			errs = append(errs, field.NotSupported(flag("dialect").Index(i), d, dialect.All()))
		} else if slices.Contains(c.Dialects[:i], d) {
			errs = append(errs, field.Duplicate(flag("dialect").Index(i), d))
		}
	}
	return append(errs, registration.ValidateDefaults(flag("default"), c.Defaults)...)
}

func validatePullPolicy(at *field.Path, policy corev1.PullPolicy) (errs field.ErrorList) {
	switch policy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		errs = append(errs,
			field.NotSupported(at, policy, []corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}))
	}
	return errs
}
