package registration

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var errNoPort = errors.New("no container declares a port; say which one is the service's")

// serving yields the containers whose ports can be a service's: the containers first, then the native sidecars. An init container
// has ended before the application starts.
func serving(pod *corev1.Pod) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for i := range pod.Spec.Containers {
			if !yield(&pod.Spec.Containers[i]) {
				return
			}
		}
		for i := range pod.Spec.InitContainers {
			if c := &pod.Spec.InitContainers[i]; restartable(c) && !yield(c) {
				return
			}
		}
	}
}

// findPort returns the first declared port for which match holds. The agentlet's own is never among them.
func findPort(pod *corev1.Pod, match func(*corev1.ContainerPort) bool) (*corev1.ContainerPort, bool) {
	for c := range serving(pod) {
		if port, ok := containerPort(c, match); ok {
			return port, true
		}
	}
	return nil, false
}

func containerPort(c *corev1.Container, match func(*corev1.ContainerPort) bool) (*corev1.ContainerPort, bool) {
	if c.Name == contract.ContainerName {
		return nil, false
	}
	for i := range c.Ports {
		if p := &c.Ports[i]; p.ContainerPort > 0 && p.ContainerPort <= 65535 && match(p) {
			return p, true
		}
	}
	return nil, false
}

// DefaultPort is what an injector writes down as the port of services that say none. Where the pod has an agentlet with another
// record, its manifest was changed since.
func DefaultPort(pod *corev1.Pod) string {
	port, err := defaultPort(pod)
	if err != nil {
		return contract.NoDefaultPort
	}
	return strconv.Itoa(port)
}

// RecordedPort is what an injector has written down; empty where it has not.
func RecordedPort(pod *corev1.Pod) (recorded string) {
	if agentlet := Agentlet(pod); agentlet != nil {
		recorded, _ = Environment(agentlet, contract.EnvDefaultPort)
	}
	return recorded
}

// Names of other service meshes' proxies.
const (
	IstioProxy   = "istio-proxy"
	LinkerdProxy = "linkerd-proxy"
)

func isMeshProxy(c *corev1.Container) bool { return c.Name == IstioProxy || c.Name == LinkerdProxy }

// besideProxy reports whether a pod has a container of its author's beside a mesh's proxy, whose ports are no service of the
// author's then. A gateway has none: the proxy is its application.
func besideProxy(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool {
		return c.Name != contract.ContainerName && !isMeshProxy(&c)
	})
}

// defaultPort is the port of services that say none: the first declared one, as it was when the agentlet was added. Others may
// have put containers before the application's since, as a mesh does within one admission. And the author may have changed the
// port since, in a manifest that came out of an injection. So the record holds while a container declares its port. In a
// manifest it says which container that is, and the first port of that one holds.
func defaultPort(pod *corev1.Pod) (int, error) {
	recorded, admitted := RecordedPort(pod), InjectionRecorded(pod)
	if admitted && recorded == contract.NoDefaultPort {
		return 0, errNoPort
	}
	before, err := parsePort(recorded)
	known := err == nil
	if port := declaredPort(pod, before, admitted); known && port > 0 {
		return port, nil
	}
	// An agentlet without a record is of a release that took a proxy's port, too: what it has registered stays.
	proxies := !besideProxy(pod) || recorded == "" && Agentlet(pod) != nil
	for c := range serving(pod) {
		if port, ok := containerPort(c, anyPort); ok && (proxies || !isMeshProxy(c)) {
			return int(port.ContainerPort), nil
		}
	}
	if known { // it is not declared any more, which closes no port
		return before, nil
	}
	return 0, errNoPort
}

// declaredPort is the port itself if a container declares it as its first one, or, with inAnyPlace, at all. Else it is the first
// port of the first container that declares it, and 0 where none does.
func declaredPort(pod *corev1.Pod, port int, inAnyPlace bool) (beside int) {
	for c := range serving(pod) {
		first, some := containerPort(c, anyPort)
		_, declared := containerPort(c, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == port })
		switch {
		case !some || !declared:
		case inAnyPlace || int(first.ContainerPort) == port:
			return port
		case beside == 0:
			beside = int(first.ContainerPort)
		}
	}
	return beside
}

func anyPort(*corev1.ContainerPort) bool { return true }

// portDefault is the port of a service that says none.
func (r *reader) portDefault(service string) (int, error) {
	port, err := defaultPort(r.pod)
	if err == nil {
		r.defaulted = append(r.defaulted, service)
	}
	return port, err
}

// lintDefaultPort warns where the default is another one than when the agentlet was added, and where it had a choice between
// containers: which one is first is up to whoever adds containers.
func (l *linter) lintDefaultPort() {
	if len(l.reg.DefaultPort) == 0 {
		return
	}
	port, err := defaultPort(l.pod)
	if err != nil {
		return
	}
	path, names := annotation(contract.ServiceNames), Excerpt(strings.Join(l.reg.DefaultPort, ", "))
	if _, structured := l.pod.Annotations[contract.Services]; structured {
		path = annotation(contract.Services)
	}
	if recorded := RecordedPort(l.pod); recorded != "" && recorded != strconv.Itoa(port) {
		l.warn(path, "no port is given for %s: %d is registered now, the first declared one of a container; it was %s when the agentlet was added",
			names, port, Excerpt(recorded))
	}
	of, others := "", []string{}
	for i := range l.pod.Spec.Containers {
		c := &l.pod.Spec.Containers[i]
		_, some := containerPort(c, anyPort)
		_, this := containerPort(c, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == port })
		switch {
		case this && of == "":
			of = c.Name
		case some && !isMeshProxy(c):
			others = append(others, c.Name)
		}
	}
	if of == "" || len(others) == 0 {
		return
	}
	l.warn(path, "no port is given for %s: the first declared one is registered, %d of container %s; %s declares ports, too",
		names, port, Excerpt(of), Excerpt(strings.Join(others, ", ")))
}

// servicePort is resolvePort for a service, which may have none: its port is 0 then.
func servicePort(pod *corev1.Pod, text string) (int, error) {
	if isNoPort(text) {
		return 0, nil
	}
	return resolvePort(pod, text)
}

func isNoPort(text string) bool { return strings.TrimSpace(text) == contract.NoPort }

// lintNoPort warns of a service without a port where a container declares one that is called so.
func (l *linter) lintNoPort() {
	p, declared := findPort(l.pod, func(p *corev1.ContainerPort) bool { return p.Name == contract.NoPort })
	if !declared {
		return
	}
	for i := range l.reg.Services {
		if s := &l.reg.Services[i]; s.Port == 0 && s.Ports == nil {
			l.warn(namePath(l.pod, i), "service %q has no port: the port %s is none, and not that of container port %d, which is called so; give its number",
				s.Name, contract.NoPort, p.ContainerPort)
		}
	}
}

// lintOwnPort warns of a service at the agentlet's own port: that is rarely meant, but somebody may register its metrics. A
// container that declares that port is an error of the injector's.
func (l *linter) lintOwnPort() {
	own := l.reg.Settings.AgentletPort
	if _, declared := findPort(l.pod, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == own }); declared {
		return
	}
	for i := range l.reg.Services {
		s := &l.reg.Services[i]
		if s.Port == own || slices.ContainsFunc(s.Ports, func(p Port) bool { return p.Port == own }) {
			l.warn(namePath(l.pod, i), "service %q: port %d is the agentlet's own, which answers /metrics, /status and no request of the application's",
				s.Name, own)
		}
	}
}

// resolvePort turns a number or a declared port's name into a number. A declared port's name holds a letter, so that
// the two can't be taken for each other.
func resolvePort(pod *corev1.Pod, text string) (int, error) {
	text = strings.TrimSpace(text)
	if isNumber(text) {
		return parsePort(text)
	}
	if !isPortName(text) {
		return 0, errForm
	}
	port, ok := findPort(pod, func(p *corev1.ContainerPort) bool { return p.Name == text })
	if !ok {
		return 0, fmt.Errorf("no container declares a port %q", text)
	}
	return int(port.ContainerPort), nil
}
