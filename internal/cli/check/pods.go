package check

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/installation"
)

// registrations finds pods that request a registration and have no agentlet. The injector decides whether a pod would get one.
func (r *run) registrations(context.Context) {
	if !r.facts.podsRead {
		return
	}
	judge, err := injector.New(injector.Config{
		Image:           "any",
		ConsulPort:      8500,
		ConsulScheme:    "http",
		AllowedServices: r.flag("allowed-services", ""),
		AllowedTags:     r.flag("allowed-tags", ""),
		Defaults:        r.defaults(),
		Dialects:        r.dialects(),
		Connect:         r.connect(),
	})
	if err != nil {
		r.add(Fail, "pods", "", "can't judge pods: "+err.Error(), "")
		return
	}
	injected, outside := 0, map[string][]*corev1.Pod{}
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		if registration.Agentlet(pod) != nil {
			injected++
			continue
		}
		decision := judge.Decide(injector.Request{
			Namespace: pod.Namespace, Pod: pod, Nonce: "any", NamespaceAnnotations: r.namespaceAnnotations(pod.Namespace),
		})
		switch {
		case decision.Outcome == injector.Skipped:
		case !r.optedIn(pod.Namespace):
			outside[pod.Namespace] = append(outside[pod.Namespace], pod)
		case decision.Outcome == injector.Denied:
			r.add(
				Fail,
				"pods",
				"pod/"+pod.Namespace+"/"+pod.Name,
				"its annotations hold errors, and it has no agentlet: "+decision.Errors.ToAggregate().Error(),
				"correct them where the pod comes from; kubectl agentlet explain -f FILE names the lines",
			)
		default:
			r.add(
				Fail,
				"pods",
				"pod/"+pod.Namespace+"/"+pod.Name,
				"it is annotated in an opted-in namespace, but has no agentlet: it was created before the namespace opted in, or while the webhook was away",
				"create it anew: "+installation.Recreate(pod),
			)
		}
	}
	for i := range r.facts.pods {
		if pods := outside[r.facts.pods[i].Namespace]; len(pods) > 0 {
			r.outside(pods)
			delete(outside, r.facts.pods[i].Namespace)
		}
	}
	r.add(OK, "pods", "", fmt.Sprintf("pods with an agentlet: %d", injected), "")
}

// dialects returns the other systems whose annotations the webhook reads.
func (r *run) dialects() []dialect.Dialect {
	names := r.flag("dialect", "")
	if names == "" {
		return nil
	}
	return dialect.Named(strings.Split(names, ","))
}

// connect lets pods ask for a mesh proxy where the webhook does, or where its flags are unknown.
func (r *run) connect() injector.Connect {
	image := r.flag("connect-image", "")
	if len(r.facts.replicas) == 0 {
		image = "any"
	}
	return injector.Connect{Image: image, Proxy: injector.Envoy, GRPCPort: 8502}
}

// namespaceAnnotations returns nil if the namespace is unknown.
func (r *run) namespaceAnnotations(namespace string) map[string]string {
	n := r.facts.namespaces[namespace]
	if n == nil {
		return nil
	}
	return n.Annotations
}

// outside reports annotated pods in a namespace that the webhook doesn't see.
func (r *run) outside(pods []*corev1.Pod) {
	namespace := pods[0].Namespace
	names := make([]string, 0, len(pods))
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	const shown = 3
	list := strings.Join(names[:min(len(names), shown)], ", ")
	if more := len(names) - shown; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	if value, _ := r.injectLabel(namespace); value == contract.InjectEnabled {
		r.add(
			Fail,
			"pods",
			"namespace/"+namespace,
			"annotated pods ("+list+") are not registered: the namespace has the label, but the webhook excludes it",
			"move them to another namespace, or take this one out of webhook.excludedNamespaces of the chart",
		)
		return
	}
	r.add(
		Fail,
		"pods",
		"namespace/"+namespace,
		"annotated pods ("+list+") are not registered: "+r.notOptedIn(namespace),
		fmt.Sprintf("%s, then %s", r.optInCommand(namespace), installation.Recreate(pods[0])),
	)
}

// notOptedIn describes why the webhook doesn't see a namespace.
func (r *run) notOptedIn(namespace string) string {
	if value, there := r.injectLabel(namespace); there {
		return fmt.Sprintf("the namespace has the label %s=%s, which must be %s", contract.InjectLabel, value, contract.InjectEnabled)
	}
	if n := r.facts.namespaces[namespace]; n != nil && n.Annotations[contract.InjectLabel] != "" {
		return "the namespace is not opted in: it has " + contract.InjectLabel + " as an annotation, and needs a label"
	}
	return "the namespace is not opted in"
}

// optInCommand returns the command that opts a namespace in.
func (r *run) optInCommand(namespace string) string {
	command := fmt.Sprintf("kubectl label namespace %s %s=%s", namespace, contract.InjectLabel, contract.InjectEnabled)
	if _, there := r.injectLabel(namespace); there {
		command += " --overwrite"
	}
	return command
}

func (r *run) injectLabel(namespace string) (value string, there bool) {
	if n := r.facts.namespaces[namespace]; n != nil {
		value, there = n.Labels[contract.InjectLabel]
	}
	return value, there
}

// gates finds gates that have been closed for too long.
func (r *run) gates(context.Context) {
	if !r.facts.podsRead {
		return
	}
	gated, open := 0, 0
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		if !apiproxy.Gated(pod) {
			continue
		}
		gated++
		gate := apiproxy.Condition(pod, contract.Condition)
		switch {
		case gate == nil:
			r.unwritten(pod)
		case gate.Status == corev1.ConditionTrue:
			open++
		default:
			r.closed(pod, gate)
		}
	}
	r.add(OK, "gates", "", fmt.Sprintf("%d of %d gates are open", open, gated), "")
}

// unwritten reports a gate that was never written.
func (r *run) unwritten(pod *corev1.Pod) {
	start, known := apiproxy.StartOf(pod)
	if !known || r.isYoung(pod) || pod.Spec.NodeName == "" {
		return
	}
	subject, age := "pod/"+pod.Namespace+"/"+pod.Name, r.Now.Sub(start).Round(time.Second)
	if registration.Agentlet(pod) == nil {
		r.add(Fail, "gates", subject, fmt.Sprintf("it waits for its gate since %s, but has no agentlet that could open it", age),
			"take the gate "+contract.Condition+" out of its template, or see who took the agentlet out")
		return
	}
	unwritten := fmt.Sprintf("its agentlet has not written the gate for %s: ", age)
	// A running agentlet writes the gate within seconds, unless something prevents it.
	if waiting := apiproxy.AgentletWaits(pod, r.Now); waiting != nil && !waiting.Running {
		r.add(Fail, "gates", subject, unwritten+waiting.Why, waiting.Remedy(pod))
		return
	}
	if missing := r.facts.ungranted[accountOf(pod)]; missing != "" {
		r.add(Fail, "gates", subject, unwritten+"its service account may not "+missing,
			fmt.Sprintf("see the findings about grants; then kubectl -n %s logs %s -c agentlet", pod.Namespace, pod.Name))
		return
	}
	r.add(Fail, "gates", subject, unwritten+"it does not reach the API server, or is not heard there",
		fmt.Sprintf("kubectl -n %s logs %s -c agentlet", pod.Namespace, pod.Name))
}

// closedGate reports whether the pod has a gate that is not open.
func closedGate(pod *corev1.Pod) bool {
	gate := apiproxy.Condition(pod, contract.Condition)
	return apiproxy.Gated(pod) && (gate == nil || gate.Status != corev1.ConditionTrue)
}

// closed reports a closed gate with a reason.
func (r *run) closed(pod *corev1.Pod, gate *corev1.PodCondition) {
	age, known := apiproxy.Since(gate.LastTransitionTime, pod, r.Now)
	if !known || age < r.Patience {
		return
	}
	subject, reason := "pod/"+pod.Namespace+"/"+pod.Name, contract.Reason(gate.Reason)
	text := fmt.Sprintf("its gate is closed for %s: %s: %s", age.Round(time.Second), gate.Reason, gate.Message)
	if waiting := apiproxy.AgentletWaits(pod, r.Now); waiting != nil && waiting.Stuck {
		r.add(Fail, "gates", subject, text+"; its agentlet does not run: "+waiting.Why, waiting.Remedy(pod))
		return
	}
	level := Fail
	remedy := apiproxy.Remedy(pod, reason)
	if reason == contract.CopiedPod {
		level = Warn // as is right for a copy that is there to be looked into
	}
	if reason == contract.ContainersNotReady {
		level = Warn // Agentlet works as intended
		if waiting := apiproxy.ContainerWaits(pod); waiting != nil {
			text, remedy = text+"; "+waiting.Why, waiting.Remedy(pod)
		}
	}
	r.add(level, "gates", subject, text, remedy)
}
