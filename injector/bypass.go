package injector

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// The kubelet's drain hook comes as plain HTTP, which the proxy of another service mesh than Consul's may refuse. The agentlet's
// own connection with Consul would depend on that proxy. So the agentlet's port and Consul's bypass it, by annotations that the
// mesh reads when it sets up the pod's network.

// Annotations and labels of Istio and Linkerd.
const (
	istioInject    = "sidecar.istio.io/inject"
	istioRevision  = "istio.io/rev"
	istioNamespace = "istio-injection"
	linkerdInject  = "linkerd.io/inject"
	linkerdSkipIn  = "config.linkerd.io/skip-inbound-ports"
	linkerdSkipOut = "config.linkerd.io/skip-outbound-ports"
)

// Istio is the Mesh of a Bypass.
const Istio = "Istio"

// proxyMesh is a service mesh whose proxy takes over the pod's connections.
type proxyMesh struct {
	name string
	// proxy is the proxy's container.
	proxy string
	// wanted reports whether the mesh's injector acts on the pod.
	wanted func(pod *corev1.Pod, request *Request) bool
	// inbound and outbound are the pod annotations with the ports that bypass the proxy.
	inbound, outbound string
	// inherited: the mesh takes these annotations from the namespace where the pod has none.
	inherited bool
	// unset is the mesh's own list of ports where there is no annotation. An annotation replaces it.
	unset string
	// setup is the init container that sets up the pod's network. These flags have its lists. With the mesh's CNI plugin there is
	// no such container, and the annotations are read when the pod starts.
	setup, inboundFlag, outboundFlag string
	// inboundOnly and outboundOnly are its flags for the only ports, and addresses, that are redirected, or "*" for all; empty: it
	// has none.
	inboundOnly, outboundOnly string
}

var (
	istio = proxyMesh{
		name: Istio, proxy: registration.IstioProxy, wanted: istioWanted,
		inbound:  "traffic.sidecar.istio.io/excludeInboundPorts",
		outbound: "traffic.sidecar.istio.io/excludeOutboundPorts",
		setup:    "istio-init", inboundFlag: "-d", outboundFlag: "-o", inboundOnly: "-b", outboundOnly: "-i",
	}
	linkerd = proxyMesh{
		name: "Linkerd", proxy: registration.LinkerdProxy, wanted: linkerdWanted,
		inbound: linkerdSkipIn, outbound: linkerdSkipOut, inherited: true,
		unset: "4567,4568", // those of its chart
		setup: "linkerd-init", inboundFlag: "--inbound-ports-to-ignore", outboundFlag: "--outbound-ports-to-ignore",
	}
	proxyMeshes = [...]*proxyMesh{&istio, &linkerd}
)

// istioWanted follows Istio's webhooks, which leave out a namespace whose istio-injection is not enabled, whatever its pods say.
// Elsewhere the pod's label counts, else its annotation, else the namespace's labels. A pod with a revision or with settings of
// Istio's proxy counts as wanted, too: they would have no effect on a pod without the proxy.
func istioWanted(pod *corev1.Pod, request *Request) bool {
	ofNamespace, labelledNamespace := request.NamespaceLabels[istioNamespace]
	if labelledNamespace && ofNamespace != "enabled" {
		return false
	}
	inject, labelled := pod.Labels[istioInject]
	if !labelled {
		inject = pod.Annotations[istioInject]
	}
	switch {
	case inject == "true":
		return true
	case inject == "false":
		return false
	case pod.Labels[istioRevision] != "":
		return true
	}
	for key := range pod.Annotations {
		if strings.HasPrefix(key, "sidecar.istio.io/") || strings.HasPrefix(key, "traffic.sidecar.istio.io/") {
			return true
		}
	}
	return labelledNamespace || request.NamespaceLabels[istioRevision] != ""
}

func linkerdWanted(pod *corev1.Pod, request *Request) bool {
	inject, annotated := pod.Annotations[linkerdInject]
	if !annotated {
		inject = request.NamespaceAnnotations[linkerdInject]
	}
	return inject == "enabled" || inject == "ingress"
}

// NamespaceAnnotations returns those of a namespace's annotations that a Request needs; nil where there are none.
func NamespaceAnnotations(annotations map[string]string) map[string]string {
	return with(contract.NamespaceAnnotations(annotations), annotations, linkerdInject, linkerdSkipIn, linkerdSkipOut)
}

// NamespaceLabels returns those of a namespace's labels that a Request needs; nil where there are none.
func NamespaceLabels(labels map[string]string) map[string]string {
	return with(nil, labels, istioNamespace, istioRevision)
}

func with(kept, all map[string]string, keys ...string) map[string]string {
	for _, key := range keys {
		if value, there := all[key]; there {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}

// Bypass is a service mesh of the pod, and the agentlet's ports that bypass its proxy.
type Bypass struct {
	Mesh string
	// Inbound and Outbound are empty where the mesh's annotation can't be read, and is left alone.
	Inbound, Outbound []int
	// Late: the mesh has set up the pod's network without them, and a warning says so.
	Late bool
}

// acts reports whether the mesh's proxy is in the pod, or will be. No mesh takes over the node's connections.
func (m *proxyMesh) acts(pod *corev1.Pod, request *Request) bool {
	return !pod.Spec.HostNetwork && (containerOf(pod, m.proxy) != nil || m.wanted(pod, request))
}

// bypass has the agentlet's port, and Consul's, bypass the proxies of the pod's meshes.
func (c *patchBuilder) bypass(request *Request, port int) {
	inbound, outbound := []int{port}, []int{c.parts.consulPort}
	if c.service != "" && c.parts.proxy != nil && c.parts.proxy.grpcPort != 0 {
		outbound = append(outbound, c.parts.proxy.grpcPort)
	}
	for _, mesh := range proxyMeshes {
		if !mesh.acts(c.pod, request) {
			continue
		}
		b := Bypass{Mesh: mesh.name}
		if c.extend(request, mesh, mesh.inbound, inbound) {
			b.Inbound = inbound
		}
		if c.extend(request, mesh, mesh.outbound, outbound) {
			b.Outbound = outbound
		}
		if late := mesh.late(c.pod, &b); len(late) > 0 {
			b.Late = true
			c.warnings = append(c.warnings, registration.Warning{
				Field: field.NewPath("metadata", "annotations").Key(mesh.inbound).String(),
				Message: fmt.Sprintf("%s's injector ran first: its proxy takes agentlet's connections, and may refuse drain hooks. "+
					"In the pod template add %s", mesh.name, strings.Join(late, ", and ")),
			})
		}
		c.bypasses = append(c.bypasses, b)
	}
}

// extend adds ports to the list in an annotation, and keeps the ports that it has. A list that can't be read is left alone,
// because the mesh refuses it. ok is false then.
func (c *patchBuilder) extend(request *Request, mesh *proxyMesh, annotation string, ports []int) (ok bool) {
	list, annotated := c.pod.Annotations[annotation]
	if !annotated && mesh.inherited {
		list, annotated = request.NamespaceAnnotations[annotation]
	}
	if !annotated {
		list = mesh.unset
	}
	missing, ok := lacking(list, ports)
	if len(missing) > 0 {
		c.add("/metadata/annotations/"+pointer.Replace(annotation), withPorts(list, missing))
	}
	return ok
}

// late returns what is too late for annotations: "PORTS to ANNOTATION", where the pod has an init container that is going to
// redirect these ports to the proxy.
func (m *proxyMesh) late(pod *corev1.Pod, b *Bypass) (late []string) {
	setup := containerOf(pod, m.setup)
	if setup == nil {
		return nil
	}
	for _, way := range [...]struct {
		annotation, excluded, included string
		ports                          []int
	}{
		{m.inbound, m.inboundFlag, m.inboundOnly, b.Inbound},
		{m.outbound, m.outboundFlag, m.outboundOnly, b.Outbound},
	} {
		if only, limited := argument(setup, way.included); limited && only != "*" {
			continue // to the application's ports, or to the addresses of Services
		}
		list, _ := argument(setup, way.excluded)
		if missing, ok := lacking(list, way.ports); ok && len(missing) > 0 {
			late = append(late, withPorts("", missing)+" to "+way.annotation)
		}
	}
	return late
}

// maxPortList bounds a list that is read, in bytes, because the patch repeats it.
const maxPortList = 4096

// lacking returns the ports that a list of ports and ranges doesn't cover. ok is false for a list that can't be read.
func lacking(list string, ports []int) (left []int, ok bool) {
	if len(list) > maxPortList {
		return nil, false
	}
	left = slices.Clone(ports)
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		low, err := strconv.ParseUint(first, 10, 16)
		high, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil {
			return nil, false
		}
		left = slices.DeleteFunc(left, func(port int) bool { return int(low) <= port && port <= int(high) })
	}
	return left, true
}

// withPorts appends ports to a list.
func withPorts(list string, ports []int) string {
	for _, port := range ports {
		if has := strings.TrimSpace(list); has != "" && !strings.HasSuffix(has, ",") {
			list += ","
		}
		list += strconv.Itoa(port)
	}
	return list
}

// argument returns the value that follows a flag in a container's arguments.
func argument(container *corev1.Container, flag string) (value string, there bool) {
	if flag == "" {
		return "", false
	}
	if i := slices.Index(container.Args, flag); i >= 0 && i+1 < len(container.Args) {
		return container.Args[i+1], true
	}
	return "", false
}

// containerOf returns the container or init container of this name, or nil.
func containerOf(pod *corev1.Pod, name string) *corev1.Container {
	for _, containers := range [...][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if containers[i].Name == name {
				return &containers[i]
			}
		}
	}
	return nil
}
