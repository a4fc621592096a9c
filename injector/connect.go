package injector

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// ProxyKind is a program that can be a mesh proxy.
type ProxyKind string

// The kinds. Consul's own program runs both, and reads their configuration from the node's agent.
const (
	Envoy   ProxyKind = "envoy"
	BuiltIn ProxyKind = "builtin"
)

// Connect is the mesh proxy that is added to pods that request one.
type Connect struct {
	// Image with the program consul, and with envoy where that is the proxy; empty: pods that request a proxy are denied.
	Image           string
	ImagePullPolicy corev1.PullPolicy
	// Proxy is the kind; Envoy when empty.
	Proxy ProxyKind
	// GRPCPort of the node's Consul agent, from which Envoy is configured.
	GRPCPort int
	// Secret in each pod's own namespace, with the proxy's token of Consul's ACL system under the key "token"; empty: none.
	Secret string
	// AuthMethod in Consul by which the agentlet creates a token for each proxy. Its tokens must not expire. It requires
	// ConsulACL with ACLLogin. Empty: none.
	AuthMethod string
	// Args are appended to those of consul: for Envoy, flags of consul connect envoy, and after "--" of Envoy itself.
	Args []string
	// CPURequest and the others are the proxy's resources, quantities; empty: none.
	CPURequest, MemoryRequest, CPULimit, MemoryLimit string
}

// proxyParts are common to all mesh proxies. The container lacks the ID of its proxy.
type proxyParts struct {
	container corev1.Container
	volumes   []corev1.Volume
	resources registration.Resources
	security  securityContexts
	// authMethod by which the agentlet creates the proxy's token; empty: it doesn't.
	authMethod string
	// grpcPort of the node's Consul agent, which the proxy connects to; 0: to none.
	grpcPort int
}

func (c *Config) validateConnect() (errs field.ErrorList) {
	connect := &c.Connect
	if connect.Proxy != "" && connect.Proxy != Envoy && connect.Proxy != BuiltIn {
		errs = append(errs, field.NotSupported(flag("connect-proxy"), connect.Proxy, []ProxyKind{Envoy, BuiltIn}))
	}
	errs = append(errs, validatePullPolicy(flag("connect-image-pull-policy"), connect.ImagePullPolicy)...)
	if connect.Image != "" && connect.Proxy != BuiltIn {
		for _, wrong := range validation.IsValidPortNum(connect.GRPCPort) {
			errs = append(errs, field.Invalid(flag("connect-grpc-port"), connect.GRPCPort, wrong))
		}
	}
	errs = append(errs, validateName(flag("connect-secret"), connect.Secret)...)
	switch {
	case connect.AuthMethod == "":
	case c.ConsulACL.Mode != ACLLogin:
		errs = append(errs, field.Invalid(flag("connect-auth-method"), connect.AuthMethod, "counts with --consul-acl=login only"))
	case connect.Secret != "":
		errs = append(errs,
			field.Invalid(flag("connect-secret"), connect.Secret, "the token is that of the Secret, or of a login by --connect-auth-method"))
	}
	_, wrong := connect.resources()
	errs = append(errs, wrong...)
	if connect.Image != "" && c.ConsulTLS.CA != "" {
		errs = append(errs, field.Invalid(flag("connect-image"), connect.Image,
			"with --consul-tls-ca the proxy has no file to read the authorities from; set --consul-tls-configmap instead"))
	}
	return errs
}

// resources of the proxy, parsed.
func (c *Connect) resources() (r registration.Resources, errs field.ErrorList) {
	for _, one := range [...]struct {
		name, text string
		into       **resource.Quantity
	}{
		{"connect-cpu-request", c.CPURequest, &r.CPURequest},
		{"connect-memory-request", c.MemoryRequest, &r.MemoryRequest},
		{"connect-cpu-limit", c.CPULimit, &r.CPULimit},
		{"connect-memory-limit", c.MemoryLimit, &r.MemoryLimit},
	} {
		if one.text == "" {
			continue
		}
		q, err := resource.ParseQuantity(one.text)
		if err != nil || q.Sign() < 0 {
			errs = append(errs, field.Invalid(flag(one.name), one.text, "must be a quantity"))
			continue
		}
		*one.into = &q
	}
	return r, errs
}

// scratchLimit bounds the volume for a named pipe and Envoy's first configuration, which need less.
const scratchLimit = "16Mi"

// tokenLimit bounds the volume for one token.
const tokenLimit = "1Mi"

// newProxyParts returns the parts for a valid configuration.
func newProxyParts(config *Config) *proxyParts {
	connect := &config.Connect
	if connect.Image == "" {
		return nil
	}
	p := &proxyParts{container: corev1.Container{
		Name:                     contract.ProxyContainerName,
		Image:                    connect.Image,
		ImagePullPolicy:          connect.ImagePullPolicy,
		RestartPolicy:            new(corev1.ContainerRestartPolicyAlways),
		Command:                  []string{"consul", "connect", "envoy"},
		Args:                     connect.Args,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		Env: []corev1.EnvVar{
			fromField(contract.EnvPodName, "metadata.name"),
			fromField(contract.EnvPodNamespace, "metadata.namespace"),
			fromField(contract.EnvPodUID, "metadata.uid"),
			fromField(contract.EnvHostIP, "status.hostIP"),
			{Name: "CONSUL_HTTP_ADDR", Value: config.consulURL(config.ConsulPort)},
		},
	}}
	p.resources, _ = connect.resources()
	p.authMethod, p.security = connect.AuthMethod, newSecurityContexts(config.RunAsUser)
	if connect.Proxy == BuiltIn {
		p.container.Command = []string{"consul", "connect", "proxy"}
	} else {
		p.grpcPort = connect.GRPCPort
		p.container.Env = append(p.container.Env, corev1.EnvVar{Name: "CONSUL_GRPC_ADDR", Value: config.consulURL(connect.GRPCPort)})
		// Envoy reads its first configuration from a named pipe.
		p.mount(corev1.Volume{Name: contract.ProxyScratchName, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse(scratchLimit)),
		}}}, corev1.VolumeMount{MountPath: contract.ProxyScratchPath})
	}
	p.addConsul(config)
	return p
}

// addConsul adds the certificates and the token for the proxy's connection with Consul.
func (p *proxyParts) addConsul(config *Config) {
	own := Config{ConsulTLS: config.ConsulTLS, ConsulACL: ConsulACL{Secret: config.Connect.Secret}}
	sources := own.consulSources()
	if len(sources) > 0 {
		p.mount(corev1.Volume{Name: contract.ProxyVolumeName, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{DefaultMode: new(int32(0o644)), Sources: sources},
		}}, corev1.VolumeMount{MountPath: contract.ProxyPath, ReadOnly: true})
	}
	file := func(name, file string) {
		p.container.Env = append(p.container.Env, corev1.EnvVar{Name: name, Value: path.Join(contract.ProxyPath, file)})
	}
	tls := &config.ConsulTLS
	if tls.ConfigMap != "" || tls.Secret != "" {
		file("CONSUL_CACERT", contract.ConsulCAFile)
		file("CONSUL_GRPC_CACERT", contract.ConsulCAFile)
	}
	if tls.Secret != "" {
		file("CONSUL_CLIENT_CERT", contract.ConsulCertFile)
		file("CONSUL_CLIENT_KEY", contract.ConsulKeyFile)
	}
	if config.ConsulScheme == "https" {
		name := tls.ServerName
		if name == "" {
			name = "localhost" // the certificates that Consul issues are valid for it
		}
		p.container.Env = append(p.container.Env, corev1.EnvVar{Name: "CONSUL_TLS_SERVER_NAME", Value: name})
	}
	switch {
	case config.Connect.Secret != "":
		file(envTokenFile, contract.ConsulTokenFile)
	case config.Connect.AuthMethod != "":
		p.mount(corev1.Volume{Name: contract.ProxyTokenName, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse(tokenLimit)),
		}}}, corev1.VolumeMount{MountPath: contract.ProxyTokenPath, ReadOnly: true})
		p.container.Env = append(p.container.Env, corev1.EnvVar{Name: envTokenFile, Value: contract.ProxyToken})
	}
}

// envTokenFile is the environment variable in which Consul's program finds the token's file.
const envTokenFile = "CONSUL_HTTP_TOKEN_FILE" //nolint:gosec // a name

// mountToken has the agentlet create the proxy's token, and mounts the volume for it.
func (p *proxyParts) mountToken(agentlet *corev1.Container) {
	if p.authMethod == "" {
		return
	}
	agentlet.Args = append(agentlet.Args, flagProxyAuthMethod+p.authMethod, "--proxy-token-file="+contract.ProxyToken)
	agentlet.VolumeMounts = append(slices.Clip(agentlet.VolumeMounts),
		corev1.VolumeMount{Name: contract.ProxyTokenName, MountPath: contract.ProxyTokenPath})
}

// lentBy reports whether an agentlet of an earlier injection creates the token that the proxy needs, or the proxy needs none.
func (p *proxyParts) lentBy(agentlet *corev1.Container) bool {
	return p.authMethod == "" ||
		slices.ContainsFunc(agentlet.Args, func(arg string) bool { return strings.HasPrefix(arg, flagProxyAuthMethod) })
}

const flagProxyAuthMethod = "--proxy-auth-method="

// mount adds a volume and where it is mounted.
func (p *proxyParts) mount(volume corev1.Volume, at corev1.VolumeMount) {
	at.Name = volume.Name
	p.volumes = append(p.volumes, volume)
	p.container.VolumeMounts = append(p.container.VolumeMounts, at)
}

// consulURL is the URL of a port of the node's agent. The kubelet expands the address.
func (c *Config) consulURL(port int) string {
	return c.ConsulScheme + "://$(" + contract.EnvHostIP + "):" + strconv.Itoa(port)
}

// proxy returns the container for the mesh proxy of a service of the pod. The kubelet expands the proxy's ID.
func (p *proxyParts) proxy(pod *corev1.Pod, service string) *corev1.Container {
	c := p.container
	c.Env = append(slices.Clip(c.Env), corev1.EnvVar{Name: contract.EnvProxyID, Value: contract.ProxyIDReference(service)})
	c.Resources = resources(pod, &p.resources)
	c.SecurityContext = p.security.in(pod)
	return &c
}

// meshed is the service for which the pod requests a proxy; empty: none.
func meshed(reg *registration.Registration) string {
	if reg == nil || !reg.Settings.ConnectInject {
		return ""
	}
	for i := range reg.Services {
		if reg.Services[i].Sidecar != nil {
			return reg.Services[i].Name
		}
	}
	return ""
}

// proxyErrors are the errors of a pod that requests a mesh proxy where the installation has none, or where the agentlet of an
// earlier injection can't serve one.
func (i *Injector) proxyErrors(f *existing, service string) field.ErrorList {
	var wrong string
	switch {
	case service == "" || f.proxy && f.agentlet != nil:
		return nil
	case i.parts.proxy == nil:
		wrong = "this installation has no mesh proxy: the webhook's --connect-image is empty"
	case f.agentlet != nil && !f.sidecar:
		wrong = "the agentlet that is in the pod already is one of its containers, and the mesh proxy has to start after it; " +
			"create the pod without it, and both are added"
	case f.agentlet != nil && !i.parts.proxy.lentBy(f.agentlet):
		wrong = "the agentlet that is in the pod already would make no token for the mesh proxy; " +
			"create the pod without it, and both are added"
	default:
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "annotations").Key(contract.ConnectInject), wrong)}
}

// proxyCollisions are the other containers and volumes with a name of the mesh proxy's.
func (i *Injector) proxyCollisions(pod *corev1.Pod, f *existing, service string) (errs field.ErrorList) {
	if service == "" || f.proxy || i.parts.proxy == nil {
		return nil
	}
	eachContainer(pod, f, func(path func() *field.Path, c *corev1.Container) {
		if c.Name == contract.ProxyContainerName {
			errs = append(errs, field.Invalid(path().Child("name"), c.Name, "the mesh proxy's container has this name; rename this one"))
		}
	})
	for k := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[k]
		own := func(v corev1.Volume) bool { return v.Name == volume.Name && !equality.Semantic.DeepEqual(&v, volume) }
		if len(errs) < maxCollisions && slices.ContainsFunc(i.parts.proxy.volumes, own) {
			errs = append(errs,
				field.Invalid(field.NewPath("spec", "volumes"), volume.Name, "the mesh proxy's own volume has this name; rename this one"))
		}
	}
	return errs
}

// addProxy inserts the mesh proxy after the agentlet and before all others, so that it starts before them and ends after them.
func (c *patchBuilder) addProxy() {
	if c.service == "" || c.found.proxy {
		return
	}
	proxy := c.parts.proxy
	c.add(fmt.Sprintf("/spec/initContainers/%d", c.found.place+1), proxy.proxy(c.pod, c.service))
	for i := range proxy.volumes {
		if !slices.ContainsFunc(c.pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == proxy.volumes[i].Name }) {
			c.add("/spec/volumes/-", &proxy.volumes[i]) // after the agentlet's
		}
	}
}
