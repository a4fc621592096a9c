package registration

import (
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var errNoPort = errors.New("no container declares a port; say which one is the service's")

// findPort returns the first declared port for which match holds: among the containers first, then among the native
// sidecars. The agentlet's own is never among them.
func findPort(pod *corev1.Pod, match func(*corev1.ContainerPort) bool) (int, bool) {
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
	return 0, false
}

func containerPort(c *corev1.Container, match func(*corev1.ContainerPort) bool) (int, bool) {
	if c.Name == contract.ContainerName {
		return 0, false
	}
	for i := range c.Ports {
		if p := &c.Ports[i]; p.ContainerPort > 0 && p.ContainerPort <= 65535 && match(p) {
			return int(p.ContainerPort), true
		}
	}
	return 0, false
}

// defaultPort is the first declared port.
func defaultPort(pod *corev1.Pod) (int, error) {
	port, ok := findPort(pod, func(*corev1.ContainerPort) bool { return true })
	if !ok {
		return 0, errNoPort
	}
	return port, nil
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
	return port, nil
}
