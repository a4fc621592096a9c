package injector

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// loopback is the agentlet's address in a host-network pod, where the pod's IP is the node's.
const loopback = "127.0.0.1"

// patchBuilder builds the patch of one pod.
type patchBuilder struct {
	parts    *podAdditions
	pod      *corev1.Pod
	found    *existing
	settings *registration.Settings
	nonce    string
	allowed  *registration.Allowed
	// service is the service whose mesh proxy is added; empty for none.
	service string
	// otherGates are readiness gates of other systems, which the agentlet opens together with its own.
	otherGates []string
	// record is what is written down of the pod as it was when its agentlet was added.
	record []corev1.EnvVar
	// defaults that the agentlet is told.
	defaults registration.Defaults

	// inIstio: Istio's injector acts on the pod, before or after this one.
	inIstio bool

	patch    []jsonpatch.Operation
	warnings []registration.Warning
	bypasses []Bypass
}

// compose adds everything that the pod doesn't have yet.
func (c *patchBuilder) compose(request *Request) {
	c.inIstio = istio.acts(c.pod, request)
	c.patch = slices.Grow(c.patch, 3+len(c.pod.Spec.Containers))
	port := c.settings.AgentletPort
	if c.found.agentlet == nil {
		agentlet := c.parts.container(c.pod, c.settings, c.nonce, c.allowed, c.otherGates, c.defaults)
		agentlet.Env = append(agentlet.Env, c.record...)
		if c.service != "" {
			c.parts.proxy.mountToken(agentlet)
		}
		c.addAgentlet(agentlet)
	} else {
		c.nonce, _ = nonceOf(c.found.agentlet)
		port = c.settings.AgentletPort
		if own, ok := c.found.ownPort(); ok {
			port = own
		}
		c.renewDefaultPort()
	}
	if c.found.volume == nil {
		appendTo(c, "/spec/volumes", len(c.pod.Spec.Volumes), &c.parts.volume)
	}
	c.addProxy()
	c.addPullSecrets()
	if c.settings.Gate != contract.GateOff && !c.found.gate {
		appendTo(c, "/spec/readinessGates", len(c.pod.Spec.ReadinessGates), &c.parts.gate)
	}
	c.addHooks(port)
	c.bypass(request, port)
}

// renewDefaultPort writes the default port down anew, where the manifest was changed since it was injected.
func (c *patchBuilder) renewDefaultPort() {
	list, place := "initContainers", c.found.place
	if !c.found.sidecar {
		list = "containers"
		place = slices.IndexFunc(c.pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == contract.ContainerName })
	}
	port := registration.DefaultPort(c.pod)
	for i := range c.found.agentlet.Env {
		if e := &c.found.agentlet.Env[i]; e.Name == contract.EnvDefaultPort && e.ValueFrom == nil && e.Value != port {
			c.add(fmt.Sprintf("/spec/%s/%d/env/%d/value", list, place, i), port)
			return
		}
	}
}

// addAgentlet inserts the agentlet's container. By default it comes after the pod's other containers: kubectl uses the first one
// if none is named. As a native sidecar it comes before all init containers, so that it starts first and ends last.
func (c *patchBuilder) addAgentlet(container *corev1.Container) {
	if c.settings.Placement == contract.PlacementContainer {
		c.add("/spec/containers/-", container)
		return
	}
	container.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	if len(c.pod.Spec.InitContainers) == 0 {
		c.add("/spec/initContainers", []*corev1.Container{container})
		return
	}
	c.add("/spec/initContainers/0", container)
}

// appendTo appends an item to the list at path. If the list is empty, it is created.
func appendTo[T any](c *patchBuilder, path string, length int, item *T) {
	if length == 0 {
		c.add(path, []*T{item})
		return
	}
	c.add(path+"/-", item)
}

func (c *patchBuilder) add(path string, value any) {
	c.patch = append(c.patch, jsonpatch.Operation{Operation: "add", Path: path, Value: value})
}

// addPullSecrets adds the Secrets for pulling the agentlet's image to the pod's own.
func (c *patchBuilder) addPullSecrets() {
	length := len(c.pod.Spec.ImagePullSecrets)
	for i := range c.parts.secrets {
		if !slices.Contains(c.pod.Spec.ImagePullSecrets, c.parts.secrets[i]) {
			appendTo(c, "/spec/imagePullSecrets", length, &c.parts.secrets[i])
			length++
		}
	}
}

// addHooks adds the drain hook to each container of the application. Where one has a preStop hook of its own, the drain hook
// takes its place if it is to be chained and can be; else the container keeps its own. What an earlier injection has chained is
// judged anew: the manifest may have changed since.
func (c *patchBuilder) addHooks(port int) {
	var plain *corev1.LifecycleHandler
	for i := range c.pod.Spec.Containers {
		container := &c.pod.Spec.Containers[i]
		if container == c.found.agentlet {
			continue
		}
		injected := container.Lifecycle != nil && registration.IsDrainHook(container.Lifecycle.PreStop)
		answered := injected && c.answers(container.Lifecycle.PreStop, port)
		own := registration.OwnHook(container)
		var hook *corev1.LifecycleHandler
		switch {
		case answered && own == nil:
			c.warnOfHook(i, container.Lifecycle.PreStop)
			continue
		case own != nil && c.keeps(i, own):
			hook = own
		case answered:
			continue
		case c.settings.DrainHook == contract.DrainHookOff:
			continue
		case own != nil:
			hook = c.drainHook(port, own, container.Name)
		default:
			if plain == nil {
				plain = c.drainHook(port, nil, "")
			}
			hook = plain
		}
		if hook == own && !injected {
			continue
		}
		// This replaces a hook of an earlier injection, for example in a pod that was exported and created again, because nothing would
		// answer it. A JSON patch's add replaces an existing member.
		path := "/spec/containers/" + strconv.Itoa(i) + "/lifecycle"
		if container.Lifecycle == nil {
			c.add(path, &corev1.Lifecycle{PreStop: hook})
		} else {
			c.add(path+"/preStop", hook)
		}
	}
}

// warnOfHook warns of an injected hook of the i-th container that stays, where it can't do what was asked for.
func (c *patchBuilder) warnOfHook(i int, hook *corev1.LifecycleHandler) {
	var message string
	switch {
	case registration.Rewritten(hook.HTTPGet) && header(hook.HTTPGet, contract.ContainerHeader) != "":
		message = "Istio has replaced the preStop hook of container %q, and with it the container's own hook, which won't be run"
	case c.settings.DrainHook == contract.DrainHookOff:
		message = "container %q has agentlet's preStop hook of an earlier injection: " + contract.DrainHook + ": false doesn't take it out"
	default:
		return
	}
	c.warnings = append(c.warnings, registration.Warning{
		Field:   field.NewPath("spec", "containers").Index(i).Child("lifecycle", "preStop").String(),
		Message: fmt.Sprintf(message, c.pod.Spec.Containers[i].Name),
	})
}

// header returns the first value of a hook's header; empty where it has none.
func header(get *corev1.HTTPGetAction, name string) string {
	for _, header := range get.HTTPHeaders {
		if header.Name == name {
			return header.Value
		}
	}
	return ""
}

// errRewritten: Istio's injector replaces the path of a hook, which would hold the container's own one.
var errRewritten = errors.New("its place, agentlet's hook, is replaced by Istio 1.25 and newer")

// chainable is nil for an own hook that the agentlet can run after the drain.
func (c *patchBuilder) chainable(container *corev1.Container, own *corev1.LifecycleHandler) error {
	if c.inIstio {
		return errRewritten
	}
	_, err := registration.ReadPreStop(c.pod, container, own)
	return err
}

// keeps reports whether the i-th container keeps its own hook and gets no drain hook. It warns of that, unless the pod wants
// none.
func (c *patchBuilder) keeps(i int, own *corev1.LifecycleHandler) bool {
	container := &c.pod.Spec.Containers[i]
	err := c.chainable(container, own)
	why, hint := "", ""
	switch {
	case c.settings.DrainHook == contract.DrainHookOff:
		return true
	case c.settings.DrainHook == contract.DrainHookChain && err == nil:
		return false
	case c.settings.DrainHook == contract.DrainHookChain:
		why = fmt.Sprintf(" that agentlet can't run after the drain (%s)", err)
	case err == nil:
		hint = fmt.Sprintf("; with %s: %s agentlet runs it after the drain", contract.DrainHook, contract.DrainHookChain)
	}
	c.warnings = append(c.warnings, registration.Warning{
		Field: field.NewPath("spec", "containers").Index(i).Child("lifecycle", "preStop").String(),
		Message: fmt.Sprintf("container %q has a preStop hook of its own%s, so agentlet adds none: "+
			"its SIGTERM follows its own hook, and may come while clients are still sent to this pod%s", container.Name, why, hint),
	})
	return true
}

// drainHook returns the preStop hook that the agentlet answers when the pod has left Consul, and when it has run the
// container's own hook, if there is one. The port is a number, because the kubelet looks up port names in the application's
// container.
func (c *patchBuilder) drainHook(port int, own *corev1.LifecycleHandler, container string) *corev1.LifecycleHandler {
	get := &corev1.HTTPGetAction{
		Path:        registration.DrainPath(own),
		Port:        intstr.FromInt32(int32(port)),
		Scheme:      corev1.URISchemeHTTP,
		HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: c.nonce}},
	}
	if own != nil {
		get.HTTPHeaders = append(get.HTTPHeaders, corev1.HTTPHeader{Name: contract.ContainerHeader, Value: container})
	}
	if c.pod.Spec.HostNetwork {
		get.Host = loopback
	}
	return &corev1.LifecycleHandler{HTTPGet: get}
}

// answers reports whether this pod's agentlet will answer an injected hook. Istio's agent passes a rewritten one on to it.
func (c *patchBuilder) answers(h *corev1.LifecycleHandler, port int) bool {
	return (registration.Rewritten(h.HTTPGet) || h.HTTPGet.Port.IntValue() == port) &&
		header(h.HTTPGet, contract.NonceHeader) == c.nonce
}
