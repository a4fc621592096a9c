package injector

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const (
	// binary is the path of the agentlet in its image.
	binary = "/agentlet"
	// tokenSeconds is the lifetime of the service account tokens that Kubernetes mounts automatically.
	tokenSeconds = 3607
	// rootCA is the ConfigMap with the API server's CA certificate, which exists in every namespace.
	rootCA = "kube-root-ca.crt"
)

// podAdditions are the parts of the patch that are the same for all pods. They are created once and never modified.
type podAdditions struct {
	base      corev1.Container
	firstArgs []string
	env       []corev1.EnvVar
	volume    corev1.Volume
	gate      corev1.PodReadinessGate
	secrets   []corev1.LocalObjectReference
	security  securityContexts
	// consulPort of the node's agent.
	consulPort int
	proxy      *proxyParts // nil if no mesh proxy is configured, so that no pod may request one
}

func newPodAdditions(config *Config) podAdditions {
	p := podAdditions{
		base: corev1.Container{
			Name:            contract.ContainerName,
			Image:           config.Image,
			ImagePullPolicy: config.ImagePullPolicy,
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
				Exec: &corev1.ExecAction{Command: []string{binary, "drain"}},
			}},
			VolumeMounts: []corev1.VolumeMount{{
				Name: contract.VolumeName, MountPath: contract.IdentityPath, ReadOnly: true,
			}},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		},
		firstArgs: []string{
			"run",
			"--consul-port=" + strconv.Itoa(config.ConsulPort),
			"--consul-scheme=" + config.ConsulScheme,
		},
		env: []corev1.EnvVar{
			fromField(contract.EnvPodName, "metadata.name"),
			fromField(contract.EnvPodNamespace, "metadata.namespace"),
			fromField(contract.EnvPodUID, "metadata.uid"),
			fromField(contract.EnvNodeName, "spec.nodeName"),
			fromField(contract.EnvPodIP, "status.podIP"),
			fromField(contract.EnvHostIP, "status.hostIP"),
		},
		volume:     identity(config.consulSources()),
		gate:       corev1.PodReadinessGate{ConditionType: contract.Condition},
		consulPort: config.ConsulPort,
		security:   newSecurityContexts(config.RunAsUser).with(config.SecurityContext),
		proxy:      newProxyParts(config),
	}
	for _, name := range config.ImagePullSecrets {
		p.secrets = append(p.secrets, corev1.LocalObjectReference{Name: name})
	}
	p.firstArgs = append(p.firstArgs, config.consulArgs()...)
	if config.ConsulTLS.CA != "" {
		p.env = append(p.env, corev1.EnvVar{Name: contract.EnvConsulCA, Value: config.ConsulTLS.CA})
	}
	if config.ClusterName != "" {
		p.firstArgs = append(p.firstArgs, "--cluster-name="+config.ClusterName)
	}
	if config.LogFormat == "text" {
		p.firstArgs = append(p.firstArgs, "--log-format=text")
	}
	return p
}

// container returns the agentlet's container for one pod. It has no probes, because its readiness would affect the pod's.
func (p *podAdditions) container(
	pod *corev1.Pod,
	settings *registration.Settings,
	nonce string,
	allowed *registration.Allowed,
	otherGates []string,
	defaults registration.Defaults,
) *corev1.Container {
	c := p.base
	c.Args = make([]string, 0, len(p.firstArgs)+4+len(otherGates)+len(defaults))
	c.Args = append(c.Args, p.firstArgs...)
	c.Args = append(c.Args, "--port="+strconv.Itoa(settings.AgentletPort), "--log-level="+settings.LogLevel)
	c.Args = append(c.Args, allowedArgs(allowed)...)
	for _, gate := range otherGates {
		c.Args = append(c.Args, "--other-gate="+gate)
	}
	c.Args = append(c.Args, defaults.Args()...)
	c.Env = make([]corev1.EnvVar, 0, len(p.env)+1)
	c.Env = append(c.Env, p.env...)
	c.Env = append(c.Env, corev1.EnvVar{Name: contract.EnvNonce, Value: nonce})
	c.Ports = []corev1.ContainerPort{{
		Name: contract.PortName, ContainerPort: int32(settings.AgentletPort),
	}}
	c.Resources = resources(pod, &settings.Resources)
	c.SecurityContext = p.security.in(pod)
	return &c
}

func fromField(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

// identity returns a volume with the content of a service account mount, and more. The agentlet has its own volume, so that the
// application's containers need no service account token.
func identity(more []corev1.VolumeProjection) corev1.Volume {
	return corev1.Volume{Name: contract.VolumeName, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(0o644)),
			Sources: append([]corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					ExpirationSeconds: new(int64(tokenSeconds)), Path: corev1.ServiceAccountTokenKey,
				}},
				{ConfigMap: &corev1.ConfigMapProjection{
					LocalObjectReference: corev1.LocalObjectReference{Name: rootCA},
					Items:                []corev1.KeyToPath{{Key: corev1.ServiceAccountRootCAKey, Path: corev1.ServiceAccountRootCAKey}},
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
					Path:     corev1.ServiceAccountNamespaceKey,
					FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
				}}}},
			}, more...),
		},
	}}
}
