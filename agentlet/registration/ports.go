package registration

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var errNoPort = errors.New("no container declares a port; say which one is the service's")

// findPort returns the first declared port for which match holds: among the containers first, then among the native
// sidecars. The agentlet's own is never among them.
func findPort(pod *corev1.Pod, match func(*corev1.ContainerPort) bool) (*corev1.ContainerPort, bool) {
	for i := range pod.Spec.Containers {
		if port, ok := containerPort(&pod.Spec.Containers[i], match); ok {
			return port, true
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if !restartable(c) {
			continue // has ended before the application starts
		}
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

// DefaultPort is what an injector writes down as the port of services that say none: the first declared one.
func DefaultPort(pod *corev1.Pod) string {
	port, err := defaultPort(pod)
	if err != nil {
		return contract.NoDefaultPort
	}
	return strconv.Itoa(port)
}

// defaultPort is the port of services that say none: the first declared one, as it was at admission.
func defaultPort(pod *corev1.Pod) (int, error) {
	if agentlet := Agentlet(pod); agentlet != nil {
		recorded, _ := Environment(agentlet, contract.EnvDefaultPort)
		if port, err := parsePort(recorded); err == nil {
			return port, nil
		}
		if recorded == contract.NoDefaultPort {
			return 0, errNoPort
		}
	}
	port, ok := findPort(pod, func(*corev1.ContainerPort) bool { return true })
	if !ok {
		return 0, errNoPort
	}
	return int(port.ContainerPort), nil
}

// portDefault is the port of a service that says none.
func (r *reader) portDefault(service string) (int, error) {
	port, err := defaultPort(r.pod)
	if err == nil {
		r.defaulted = append(r.defaulted, service)
	}
	return port, err
}

// lintDefaultPort warns where the default had a choice between containers: which one is first is up to whoever adds containers.
func (l *linter) lintDefaultPort() {
	if len(l.reg.DefaultPort) == 0 {
		return
	}
	port, err := defaultPort(l.pod)
	if err != nil {
		return
	}
	of, others := "", []string{}
	for i := range l.pod.Spec.Containers {
		c := &l.pod.Spec.Containers[i]
		_, some := containerPort(c, func(*corev1.ContainerPort) bool { return true })
		_, this := containerPort(c, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == port })
		switch {
		case this && of == "":
			of = c.Name
		case some:
			others = append(others, c.Name)
		}
	}
	if of == "" || len(others) == 0 {
		return
	}
	path := annotation(contract.ServiceNames)
	if _, structured := l.pod.Annotations[contract.Services]; structured {
		path = annotation(contract.Services)
	}
	l.warn(path, "no port is given for %s: the first declared one is registered, %d of container %s; %s declares ports, too",
		Excerpt(strings.Join(l.reg.DefaultPort, ", ")), port, Excerpt(of), Excerpt(strings.Join(others, ", ")))
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
