package injector

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// existing is what an earlier injection left in a pod.
type existing struct {
	// agentlet is the injected container, or nil; sidecar: it is among the init containers, and place its index there: 0 where
	// it is added now.
	agentlet *corev1.Container
	sidecar  bool
	place    int
	// proxy: there is an injected mesh proxy.
	proxy  bool
	volume *corev1.Volume
	gate   bool
}

func scan(pod *corev1.Pod) (f existing) {
	// One that was injected has a nonce. Its image is no sign: the webhook may have been upgraded in between.
	if c := registration.Agentlet(pod); c != nil {
		if _, injected := nonceOf(c); injected {
			f.agentlet = c
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		_, proxy := registration.InjectedProxyID(c)
		f.proxy = f.proxy || proxy
		if c == f.agentlet {
			f.sidecar, f.place = true, i
		}
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.Name == contract.VolumeName {
			f.volume = v
		}
	}
	for _, g := range pod.Spec.ReadinessGates {
		f.gate = f.gate || g.ConditionType == contract.Condition
	}
	return f
}

func nonceOf(c *corev1.Container) (string, bool) {
	return registration.Environment(c, contract.EnvNonce)
}

// port of the agentlet in the pod, or where there is none, the one of the annotations.
func (f *existing) port(pod *corev1.Pod, defaults registration.Defaults) (port int, note string, ok bool) {
	if port, ok := f.ownPort(); ok {
		return port, "", true
	}
	return registration.AgentletPort(pod, defaults)
}

// ownPort is the port that the agentlet in the pod declares.
func (f *existing) ownPort() (int, bool) {
	if f.agentlet != nil {
		for _, p := range f.agentlet.Ports {
			if p.Name == contract.PortName {
				return int(p.ContainerPort), true
			}
		}
	}
	return 0, false
}

// maxCollisions bounds the reported collisions of ports, and of volumes.
const maxCollisions = 20

// nameCollisions are the other containers and volumes with a name of the agentlet's.
func (i *Injector) nameCollisions(pod *corev1.Pod, f *existing) (errs field.ErrorList) {
	eachContainer(pod, f, func(path func() *field.Path, c *corev1.Container) {
		if c.Name == contract.ContainerName {
			errs = append(errs, field.Invalid(path().Child("name"), c.Name, "agentlet's own container has this name; rename this one"))
		}
	})
	// If the agentlet is in the pod, the volume is the one that it mounts, which may be of an older build.
	if f.agentlet == nil && f.volume != nil && !equality.Semantic.DeepEqual(f.volume, &i.parts.volume) {
		errs = append(errs,
			field.Invalid(field.NewPath("spec", "volumes"), f.volume.Name, "agentlet's own volume has this name; rename this one"))
	}
	return errs
}

// portCollisions are the declared ports of others that equal the agentlet's.
func (i *Injector) portCollisions(pod *corev1.Pod, f *existing, defaults registration.Defaults) (errs field.ErrorList) {
	port, note, ok := f.port(pod, defaults)
	if !ok {
		return nil // reported as an error elsewhere
	}
	eachContainer(pod, f, func(path func() *field.Path, c *corev1.Container) {
		for j := range c.Ports {
			p := &c.Ports[j]
			if len(errs) < maxCollisions && int(p.ContainerPort) == port && (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") {
				errs = append(errs, field.Invalid(path().Child("ports").Index(j).Child("containerPort"), port, fmt.Sprintf(
					"is the agentlet's own port; give it another one with the annotation %s%s", contract.AgentletPort, note)))
			}
		}
	})
	return errs
}

// eachContainer visits every container except the injected one. The path is a function, because most are never needed.
func eachContainer(pod *corev1.Pod, f *existing, visit func(path func() *field.Path, c *corev1.Container)) {
	for _, list := range [...]struct {
		name       string
		containers []corev1.Container
	}{{"initContainers", pod.Spec.InitContainers}, {"containers", pod.Spec.Containers}} {
		for k := range list.containers {
			if c := &list.containers[k]; c != f.agentlet {
				visit(func() *field.Path { return field.NewPath("spec", list.name).Index(k) }, c)
			}
		}
	}
}
