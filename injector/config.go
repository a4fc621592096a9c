package injector

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// Config is what the installation fixes for every injection.
type Config struct {
	// Image of the agentlet, and its pull policy (empty: Kubernetes' default).
	Image           string
	ImagePullPolicy corev1.PullPolicy
	// ConsulPort and ConsulScheme of the node's Consul agent; the host is the node's IP.
	ConsulPort   int
	ConsulScheme string
	// ClusterName becomes the meta k8s-cluster; empty: none.
	ClusterName string
	// Defaults for keys of the contract, handed on to the agentlet.
	Defaults registration.Defaults
	// AllowedServices are comma-separated globs of the service names that may be registered where the namespace does not
	// say it; empty: all.
	AllowedServices string
}

// maxMetaValue is Consul's bound on a meta value, which the cluster's name becomes.
const maxMetaValue = 512

func (c *Config) validate() (errs field.ErrorList) {
	root := field.NewPath("config")
	if strings.TrimSpace(c.Image) == "" {
		errs = append(errs, field.Required(root.Child("image"), "the agentlet's image"))
	}
	switch c.ImagePullPolicy {
	case "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever:
	default:
		errs = append(errs, field.NotSupported(root.Child("imagePullPolicy"), c.ImagePullPolicy,
			[]corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}))
	}
	for _, wrong := range validation.IsValidPortNum(c.ConsulPort) {
		errs = append(errs, field.Invalid(root.Child("consulPort"), c.ConsulPort, wrong))
	}
	if c.ConsulScheme != "http" && c.ConsulScheme != "https" {
		errs = append(errs, field.NotSupported(root.Child("consulScheme"), c.ConsulScheme, []string{"http", "https"}))
	}
	if len(c.ClusterName) > maxMetaValue {
		errs = append(errs, field.TooLong(root.Child("clusterName"), "", maxMetaValue))
	}
	if c.AllowedServices != "" {
		if _, err := registration.ParseAllowed(c.AllowedServices); err != nil {
			errs = append(errs, field.Invalid(root.Child("allowedServices"), c.AllowedServices, "must be comma-separated globs: "+err.Error()))
		}
	}
	return append(errs, registration.ValidateDefaults(root.Child("defaults"), c.Defaults)...)
}
