package registration

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// At the node's address a container's port is to be had at its hostPort, if it has one. A number is taken as it is: it may be
// the nodePort of a Kubernetes Service.

var errNoHostPort = errors.New("this container port has no hostPort, so that nothing listens for it at " + HostIP +
	"; declare one, or give the number of a port that is open there")

// atHost is the port at which a declared port is to be had at the node's address.
func atHost(pod *corev1.Pod, p *corev1.ContainerPort) (int, error) {
	switch {
	case pod.Spec.HostNetwork:
		return int(p.ContainerPort), nil
	case p.HostPort > 0 && p.HostPort <= 65535:
		return int(p.HostPort), nil
	}
	return 0, errNoHostPort
}

// portAtHost resolves a port at the node's address as resolvePort does one at the pod's.
func portAtHost(pod *corev1.Pod, text string) (int, error) {
	text = strings.TrimSpace(text)
	p, ok := findPort(pod, func(p *corev1.ContainerPort) bool { return p.Name == text })
	if isNumber(text) || !ok {
		return resolvePort(pod, text)
	}
	return atHost(pod, p)
}

// containerPortAtHost is the port at the node's address for a number of a container's.
func containerPortAtHost(pod *corev1.Pod, port int) (int, error) {
	if pod.Spec.HostNetwork {
		return port, nil
	}
	p, ok := findPort(pod, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == port })
	if !ok {
		return 0, errNoHostPort
	}
	return atHost(pod, p)
}

// valueOf is what a mapping has for a key; nil where it has nothing.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i+1].ShortTag() != "!!null" {
			return n.Content[i+1]
		}
	}
	return nil
}

// scalarOf is what a mapping says for a key as it is written; empty where it says nothing.
func scalarOf(n *yaml.Node, key string) string {
	if v := valueOf(n, key); v != nil {
		return v.Value
	}
	return ""
}

// portAtNode is the port at the node's address for one that was read as the pod's, and that one within the pod.
func portAtNode(pod *corev1.Pod, text string, port int) (atNode, inPod int, err error) {
	switch {
	case text == "":
		atNode, err = containerPortAtHost(pod, port)
		return atNode, port, err
	case isNumber(strings.TrimSpace(text)):
		if p, ok := findPort(pod, func(p *corev1.ContainerPort) bool { return int(p.HostPort) == port }); ok {
			return port, int(p.ContainerPort), nil
		}
		return port, port, nil
	}
	atNode, err = portAtHost(pod, text)
	return atNode, port, err
}

// settleHostPorts gives what is registered at the node's address its port there, and returns the service's port within the pod,
// to which its checks and its mesh proxy go.
func (d decoder) settleHostPorts(path *field.Path, n *yaml.Node, s *Service) (inPod int) {
	pod, inPod := d.r.pod, s.Port
	settle := func(path *field.Path, n *yaml.Node, port *int) (inPod int) {
		text := scalarOf(n, "port")
		atNode, inPod, err := portAtNode(pod, text, *port)
		if err != nil {
			d.r.add(field.Invalid(path.Child("port"), Excerpt(text), expectation(portForm, err)))
		}
		*port = atNode
		return inPod
	}
	switch {
	case s.Address != HostIP:
	case len(s.Ports) > 0:
		for i, n := range valueOf(n, "ports").Content {
			if p := &s.Ports[i]; p.Port != 0 {
				in := settle(path.Child("ports").Index(i), n, &p.Port)
				if p.Default {
					s.Port, inPod = p.Port, in
				}
			}
		}
	case inPod != 0:
		inPod = settle(path, n, &s.Port)
	}
	for tag, address := range s.TaggedAddresses {
		if address.Port != 0 || inPod == 0 {
			continue
		}
		var err error
		switch {
		case address.Address != HostIP:
			address.Port = inPod
		case s.Address == HostIP:
			address.Port = s.Port
		default:
			address.Port, err = containerPortAtHost(pod, inPod)
		}
		if err != nil {
			d.r.add(field.Invalid(path.Child("tagged_addresses").Key(tag).Child("port"), "", expectation(portForm, err)))
		}
		s.TaggedAddresses[tag] = address
	}
	return inPod
}

// lintHostPorts warns of a number that is a container's port and is meant for the node's address.
func (l *linter) lintHostPorts() {
	for i := range l.reg.Services {
		s, path := &l.reg.Services[i], annotation(contract.Services).Index(i)
		switch {
		case s.Address != HostIP:
		case s.Ports == nil:
			l.lintHostPort(path.Child("port"), s.Port)
		default:
			for k := range s.Ports {
				l.lintHostPort(path.Child("ports").Index(k).Child("port"), s.Ports[k].Port)
			}
		}
		for tag, address := range s.TaggedAddresses {
			if address.Address == HostIP && (s.Address != HostIP || address.Port != s.Port) {
				l.lintHostPort(path.Child("tagged_addresses").Key(tag).Child("port"), address.Port)
			}
		}
	}
}

func (l *linter) lintHostPort(path *field.Path, port int) {
	if l.pod.Spec.HostNetwork {
		return
	}
	if _, open := findPort(l.pod, func(p *corev1.ContainerPort) bool { return int(p.HostPort) == port }); open {
		return
	}
	if p, declared := findPort(l.pod, func(p *corev1.ContainerPort) bool { return int(p.ContainerPort) == port }); declared {
		instead := ""
		if p.HostPort > 0 {
			instead = fmt.Sprintf("; its hostPort is %d", p.HostPort)
		}
		l.warn(path, "%s:%d is registered, and %d is a container's port, for which nothing listens at the node's address%s",
			HostIP, port, port, instead)
	}
}
