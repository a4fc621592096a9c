package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// agentlets asks one running agentlet on each node whether it reaches the node's Consul agent from the pod network. Its answer
// proves that the API server can reach its port; whether the kubelet can is checked by hooks.
func (r *run) agentlets(ctx context.Context) {
	var asked []*corev1.Pod
	nodes := map[string]bool{}
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		if registration.Agentlet(pod) == nil || pod.Status.Phase != corev1.PodRunning || r.isYoung(pod) {
			continue
		}
		if waiting := apiproxy.AgentletWaits(pod, r.Now); waiting != nil {
			if waiting.Stuck && !closedGate(pod) { // a closed gate is reported by gates
				r.add(Fail, "agentlets", "pod/"+pod.Namespace+"/"+pod.Name, "its agentlet does not run: "+waiting.Why, waiting.Remedy(pod))
			}
			continue
		}
		if !nodes[pod.Spec.NodeName] {
			asked, nodes[pod.Spec.NodeName] = append(asked, pod), true
		}
	}
	r.each(len(asked), func(r *run, i int) { r.agentlet(ctx, asked[i]) })
}

func (r *run) agentlet(ctx context.Context, pod *corev1.Pod) {
	subject, name := "node/"+pod.Spec.NodeName, pod.Namespace+"/"+pod.Name
	status, err := r.Cluster.Status(ctx, pod)
	switch {
	case errors.Is(err, apiproxy.ErrForbidden):
		r.add(Skip, "agentlets", subject, "its agentlets can't be asked from here: that needs the right to get pods/proxy", "")
	case errors.Is(err, apiproxy.ErrStarting):
		r.add(Skip, "agentlets", subject, fmt.Sprintf("the agentlet of %s has just started", name), "")
	case err != nil:
		r.add(
			Warn,
			"agentlets",
			subject,
			fmt.Sprintf("the agentlet of %s doesn't answer the API server: %v", name, err),
			fmt.Sprintf("see whether it runs, and which NetworkPolicy closes its port: kubectl -n %s describe pod %s", pod.Namespace,
				pod.Name),
		)
	case registered(status):
		r.add(OK, "agentlets", subject,
			fmt.Sprintf("the agentlet of %s answers, and reaches the Consul agent at %s", name, status.Consul), "")
	case len(status.Failing) > 0:
		r.add(Warn, "agentlets", subject, fmt.Sprintf("the agentlet of %s tries in vain: %s", name, inOneLine(status.Failing)),
			fmt.Sprintf("kubectl -n %s logs %s -c agentlet", pod.Namespace, pod.Name))
	default:
		r.add(OK, "agentlets", subject, fmt.Sprintf("the agentlet of %s answers, and has nothing registered now", name), "")
	}
}

// inOneLine formats the errors that an agentlet reports.
func inOneLine(all map[string]string) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, what+": "+all[what])
	}
	return strings.Join(parts, "; ")
}

// isYoung reports whether a pod may still be starting.
func (r *run) isYoung(pod *corev1.Pod) bool { return r.youngerThan(pod, r.Patience) }

// isNew reports whether a pod was just created, so that other components may not be ready for it.
func (r *run) isNew(pod *corev1.Pod) bool {
	const moment = 10 * time.Second
	return r.youngerThan(pod, min(r.Patience, moment))
}

func (r *run) youngerThan(pod *corev1.Pod, age time.Duration) bool {
	start, known := apiproxy.StartOf(pod)
	return known && r.Now.Sub(start) < age
}

// hookPatience is the maximum age of an event that is still relevant.
const hookPatience = time.Hour

// hooks finds failed preStop hooks of pods in opted-in namespaces. If it was the drain hook, SIGTERM came without waiting for
// Consul. The pods are usually gone, and the kubelet doesn't say which hook failed.
func (r *run) hooks(ctx context.Context) {
	events, err := r.Kube.CoreV1().Events(r.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("reason", failedHook).String(),
	})
	if err != nil {
		r.add(Skip, "hooks", "", "can't read events: "+err.Error(), "")
		return
	}
	newest, failed := map[string]*corev1.Event{}, map[string]int{}
	for i := range events.Items {
		event := &events.Items[i]
		namespace := event.InvolvedObject.Namespace
		if event.Reason != failedHook || !r.optedIn(namespace) || r.Now.Sub(happened(event)) > hookPatience {
			continue
		}
		failed[namespace]++
		if last := newest[namespace]; last == nil || happened(last).Before(happened(event)) {
			newest[namespace] = event
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(newest)) {
		last := newest[namespace]
		r.add(
			Warn,
			"hooks",
			"namespace/"+namespace,
			fmt.Sprintf("preStop hooks of %s failed in the last hour, the last one of pod %s at %s: %s",
				printer.Count(failed[namespace], "container"), last.InvolvedObject.Name, happened(last).UTC().Format(layout), last.Message),
			"if it was the drain hook, see that the kubelet reaches the agentlet's port at the pod's IP, and that the agentlet was not killed before the application",
		)
	}
	if len(newest) == 0 {
		r.add(OK, "hooks", "", "the kubelets report no failed preStop hook in opted-in namespaces in the last hour", "")
	}
}

// happened returns when an event happened last. Its writer decides which of its times are set.
func happened(event *corev1.Event) time.Time {
	times := []time.Time{event.LastTimestamp.Time, event.EventTime.Time}
	if event.Series != nil {
		times = append(times, event.Series.LastObservedTime.Time)
	}
	if last := slices.MaxFunc(times, time.Time.Compare); !last.IsZero() {
		return last
	}
	return event.CreationTimestamp.Time
}

// failedHook is the kubelet's reason for the event.
const failedHook = "FailedPreStopHook"
