package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// proxyInjector is the webhook with which another service mesh adds its proxy: the end of its name, which may have a prefix, and
// the proxy's container.
type proxyInjector struct{ mesh, hook, proxy string }

var proxyInjectors = [...]proxyInjector{
	{"Istio", "sidecar-injector.istio.io", "istio-proxy"},
	{"Linkerd", "linkerd-proxy-injector.linkerd.io", "linkerd-proxy"},
}

// order reports a mesh's webhook that is called before agentlet's, where pods have both: agentlet's annotations come too late for
// it. The API server calls webhooks in the order of their configurations' names.
func (r *run) order(context.Context) {
	if r.facts.hook == nil {
		return
	}
	for i := range r.facts.configurations {
		other := &r.facts.configurations[i]
		if other.Name >= r.facts.configuration {
			continue
		}
		for k := range proxyInjectors {
			pods := 0
			if mesh := &proxyInjectors[k]; mesh.runsOnce(other) {
				pods = r.podsWith(mesh.proxy)
			}
			if pods == 0 {
				continue
			}
			r.add(Warn, "webhook", "mutatingwebhookconfiguration/"+other.Name, fmt.Sprintf(
				"%s's injector runs before agentlet's, since %s comes after it by name: its proxies may refuse the drain hooks of %s",
				proxyInjectors[k].mesh, r.facts.configuration, printer.Count(pods, "pod")),
				"install agentlet under a name that comes first (fullnameOverride), or exclude its ports in pod templates: docs/mesh.md")
		}
	}
}

// runsOnce reports whether a configuration calls the mesh's injector, and not once more after other webhooks.
func (p *proxyInjector) runsOnce(configuration *admissionregistrationv1.MutatingWebhookConfiguration) bool {
	return slices.ContainsFunc(configuration.Webhooks, func(hook admissionregistrationv1.MutatingWebhook) bool {
		return strings.HasSuffix(hook.Name, p.hook) &&
			(hook.ReinvocationPolicy == nil || *hook.ReinvocationPolicy == admissionregistrationv1.NeverReinvocationPolicy)
	})
}

// podsWith is the number of pods with an agentlet and a container, or init container, of this name.
func (r *run) podsWith(container string) (n int) {
	named := func(c corev1.Container) bool { return c.Name == container }
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		if registration.Agentlet(pod) != nil &&
			(slices.ContainsFunc(pod.Spec.Containers, named) || slices.ContainsFunc(pod.Spec.InitContainers, named)) {
			n++
		}
	}
	return n
}
