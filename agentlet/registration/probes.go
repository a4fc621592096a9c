package registration

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Probe is a container's own probe of a kind that the agentlet can run itself, with the kubelet's defaults filled in.
type Probe struct {
	// HTTPGet or GRPC is set, or neither: then the port is only connected to.
	HTTPGet *corev1.HTTPGetAction
	GRPC    *corev1.GRPCAction
	// Host is empty for the pod's IP, or a loopback address of a pod on its host's network.
	Host string
	// Port as a number, looked up among the container's own.
	Port int

	// InitialDelay counts from the container's start, Period is the kubelet's own.
	InitialDelay, Period, Timeout      time.Duration
	SuccessThreshold, FailureThreshold int
}

// ContainerProbes are the probes of one container that the agentlet runs itself.
type ContainerProbes struct {
	// Readiness is never nil.
	Readiness *Probe
	// Startup comes before; nil where there is none, or where only the kubelet can run it.
	Startup *Probe
	// AwaitsKubelet: there is a startup probe that only the kubelet can run.
	AwaitsKubelet bool
}

// readProbes finds the probes that the agentlet runs under readiness: start or probe, by container. Of all other containers the
// kubelet's word counts; where one has a readiness probe, unprobed says why.
func (r *reader) readProbes(exclude []string) (probes map[string]ContainerProbes, unprobed []string) {
	probes = map[string]ContainerProbes{}
	for _, c := range Counting(r.pod, exclude) {
		if c.ReadinessProbe == nil {
			continue
		}
		readiness, err := runnable(r.pod, c, c.ReadinessProbe)
		if err != nil {
			unprobed = append(
				unprobed,
				fmt.Sprintf("container %q: the kubelet's word on its readiness counts, because the agentlet can't run its readinessProbe: %s",
					c.Name, err),
			)
			continue
		}
		p := ContainerProbes{Readiness: readiness}
		if c.StartupProbe != nil {
			if p.Startup, err = runnable(r.pod, c, c.StartupProbe); err != nil {
				p.AwaitsKubelet = true
				unprobed = append(
					unprobed,
					fmt.Sprintf("container %q: its readinessProbe waits until the kubelet says that it has started, because the agentlet can't run its startupProbe: %s",
						c.Name, err),
				)
			}
		}
		probes[c.Name] = p
	}
	return probes, unprobed
}

// Counting returns the containers that count for readiness, in the pod's order: the native sidecars and the
// application's, without the agentlet itself and the excluded ones.
func Counting(pod *corev1.Pod, exclude []string) []*corev1.Container {
	excluded := map[string]bool{contract.ContainerName: true}
	for _, name := range exclude {
		excluded[name] = true
	}
	var counting []*corev1.Container
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if restartable(c) && !excluded[c.Name] {
			counting = append(counting, c)
		}
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; !excluded[c.Name] {
			counting = append(counting, c)
		}
	}
	return counting
}

// runnable turns a container's probe into one that the agentlet can run; the error says why it can't.
func runnable(pod *corev1.Pod, c *corev1.Container, from *corev1.Probe) (*Probe, error) {
	seconds := func(n, otherwise int32) time.Duration { return time.Duration(positive(n, otherwise)) * time.Second }
	p := &Probe{
		HTTPGet: from.HTTPGet, GRPC: from.GRPC,
		InitialDelay: time.Duration(max(from.InitialDelaySeconds, 0)) * time.Second,
		Period:       seconds(from.PeriodSeconds, 10), Timeout: seconds(from.TimeoutSeconds, 1),
		SuccessThreshold: int(positive(from.SuccessThreshold, 1)), FailureThreshold: int(positive(from.FailureThreshold, 3)),
	}
	var port intstr.IntOrString
	switch {
	case from.HTTPGet != nil:
		port, p.Host = from.HTTPGet.Port, from.HTTPGet.Host
	case from.TCPSocket != nil:
		port, p.Host = from.TCPSocket.Port, from.TCPSocket.Host
	case from.GRPC != nil:
		port = intstr.FromInt32(from.GRPC.Port)
	case from.Exec != nil:
		return nil, errors.New("it is an exec probe")
	default:
		return nil, errors.New("it is of a kind that this version does not know")
	}
	var err error
	p.Host, p.Port, err = target(pod, c, p.Host, port)
	return p, err
}

// target is where a probe or hook of a container goes: host is empty for the pod's IP. Another host than the pod's own is an
// error.
func target(pod *corev1.Pod, c *corev1.Container, to string, at intstr.IntOrString) (host string, port int, err error) {
	if !ownHost(pod, to) {
		return "", 0, fmt.Errorf("it goes to %q and not to the pod's own IP", Excerpt(to))
	}
	if to != pod.Status.PodIP {
		host = to
	}
	port, err = probePort(c, at)
	return host, port, err
}

func positive(n, otherwise int32) int32 {
	if n > 0 {
		return n
	}
	return otherwise
}

// ownHost reports whether the host of a probe or hook means the pod. For the kubelet a loopback address is the node's, which
// is the pod's own only on the host's network.
func ownHost(pod *corev1.Pod, host string) bool {
	address, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && address.IsLoopback()
	return host == "" || host == pod.Status.PodIP || pod.Spec.HostNetwork && loopback
}

// probePort looks a port's name up among those of the same container, as the kubelet does.
func probePort(c *corev1.Container, port intstr.IntOrString) (int, error) {
	number := port.IntValue()
	if port.Type == intstr.String {
		number = 0
		for i := range c.Ports {
			if c.Ports[i].Name == port.StrVal {
				number = int(c.Ports[i].ContainerPort)
				break
			}
		}
	}
	if number < 1 || number > 65535 {
		return 0, fmt.Errorf("the container has no port %q", Excerpt(port.String()))
	}
	return number, nil
}
