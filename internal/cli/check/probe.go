package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// Probe configures the pods that ask the nodes' Consul agents.
type Probe struct {
	// Image holds the agentlet.
	Image string
	// Patience is how long one pod may take, with the pull of its image.
	Patience time.Duration
}

const (
	// probeLabel and probeName mark the probes' pods, so that those of a killed run can be found.
	probeLabel = "app.kubernetes.io/name"
	probeName  = "agentlet-probe"
	// probePoll is how often a pod is looked at.
	probePoll = 500 * time.Millisecond
	// probeCreate bounds the creation of a pod, which outlasts an interrupt: it is longer than most admission webhooks may take.
	probeCreate = 20 * time.Second
	// probeCleanup bounds the deletion of a pod.
	probeCleanup = 10 * time.Second
)

// probe runs a pod on each node, parallel ones at once, which asks the node's Consul agent.
func (r *preRun) probe(ctx context.Context) {
	if r.pre.Probe == nil {
		return
	}
	results := make([]probeResult, len(r.facts.nodes))
	r.each(len(results), func(out *run, i int) {
		if results[i].err = ctx.Err(); results[i].err != nil {
			return // the end of the run is reported once
		}
		name := r.facts.nodes[i].Name
		results[i].found, results[i].err = r.probeNode(ctx, out, name)
		if err := results[i].err; err != nil {
			out.add(Warn, "nodes", "node/"+name, "the probe has no result: "+err.Error(),
				"see that the image is pulled and that namespace "+r.pre.Into+" admits the pod; or leave --probe-nodes out")
		}
	})
	r.probed = map[string]probeResult{}
	for i := range results {
		r.probed[r.facts.nodes[i].Name] = results[i]
	}
}

// probeNode runs a pod on one node, and deletes it in any case.
func (r *preRun) probeNode(ctx context.Context, out *run, node string) (found contract.AgentProbe, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.pre.Probe.Patience)
	defer cancel()
	created, err := r.createProbe(ctx, node)
	if created != nil {
		defer r.deleteProbe(ctx, out, created.Name)
	}
	if err != nil {
		return found, fmt.Errorf("create its pod: %w", err)
	}
	pods := r.Kube.CoreV1().Pods(r.pre.Into)
	last := created
	err = wait.PollUntilContextCancel(ctx, probePoll, true, func(ctx context.Context) (bool, error) {
		pod, err := pods.Get(ctx, created.Name, metav1.GetOptions{})
		if err != nil {
			return false, err //nolint:wrapcheck // wrapped below
		}
		last = pod
		waiting := apiproxy.ContainerWaits(pod)
		if waiting != nil && waiting.Stuck && pod.Status.Phase == corev1.PodPending {
			return false, errors.New(waiting.Why)
		}
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed, nil
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return found, fmt.Errorf("its pod has not ended in time: %s", phase(last))
	case err != nil:
		return found, fmt.Errorf("its pod: %w", err)
	}
	return probeAnswer(last)
}

// createProbe creates the pod for a node. It returns one to delete even with an error, unless the API server has said that there
// is none. An interrupt doesn't end it: the API server may store the pod without that anybody learns of it.
func (r *preRun) createProbe(ctx context.Context, node string) (*corev1.Pod, error) {
	if err := ctx.Err(); err != nil {
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	creating, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCreate)
	defer cancel()
	pod := r.probePod(node)
	created, err := r.Kube.CoreV1().Pods(r.pre.Into).Create(creating, pod, metav1.CreateOptions{})
	switch {
	case err == nil:
		return created, nil
	case storedNothing(err):
		return nil, err //nolint:wrapcheck // wrapped by the caller
	}
	return pod, err //nolint:wrapcheck // wrapped by the caller
}

// storedNothing reports whether an error says that the API server has stored nothing, since it refused the request. One with a
// status of 500 or more, from it or a proxy before it, does not say that.
func storedNothing(err error) bool {
	status := apierrors.APIStatus(nil)
	return errors.As(err, &status) && status.Status().Code/100 == 4
}

// deleteProbe deletes a pod, also after the run has ended.
func (r *preRun) deleteProbe(ctx context.Context, out *run, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeCleanup)
	defer cancel()
	err := r.Kube.CoreV1().Pods(r.pre.Into).Delete(ctx, name, *metav1.NewDeleteOptions(0))
	if err != nil && !apierrors.IsNotFound(err) {
		out.add(Warn, "nodes", "pod/"+r.pre.Into+"/"+name, "the probe's pod is left: "+err.Error(),
			fmt.Sprintf("kubectl -n %s delete pods -l %s=%s", r.pre.Into, probeLabel, probeName))
	}
}

// probeAnswer reads the result of a pod that has ended.
func probeAnswer(pod *corev1.Pod) (found contract.AgentProbe, err error) {
	for _, status := range pod.Status.ContainerStatuses {
		if ended := status.State.Terminated; ended != nil {
			if err := json.Unmarshal([]byte(ended.Message), &found); err != nil {
				return found, fmt.Errorf("its pod has ended with exit code %d: %q", ended.ExitCode, ended.Message)
			}
			return found, nil
		}
	}
	return found, fmt.Errorf("its pod has ended: %s", phase(pod))
}

// phase says how far a pod is.
func phase(pod *corev1.Pod) string {
	if waiting := apiproxy.ContainerWaits(pod); waiting != nil {
		return waiting.Why
	}
	text := string(pod.Status.Phase)
	if pod.Status.Reason != "" {
		text += ", " + pod.Status.Reason + ": " + pod.Status.Message
	}
	return text
}

// probePod returns the pod for a node. It meets the Pod Security Standard restricted, and nothing is injected into it. Its
// name is made here, so that it can be deleted without the API server's answer.
func (r *preRun) probePod(node string) *corev1.Pod {
	const result = "/dev/termination-log"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: probeName + "-" + rand.String(10), Namespace: r.pre.Into,
			Labels: map[string]string{
				probeLabel: probeName, "sidecar.istio.io/inject": "false",
			},
			Annotations: map[string]string{
				"linkerd.io/inject": "disabled", "sidecar.istio.io/inject": "false", "consul.hashicorp.com/connect-inject": "false",
				contract.InjectLabel: "false",
			},
		},
		Spec: corev1.PodSpec{
			NodeName: node, RestartPolicy: corev1.RestartPolicyNever, // on this node even if it is cordoned
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			ActiveDeadlineSeconds:         new(max(1, int64(r.pre.Probe.Patience/time.Second))),
			TerminationGracePeriodSeconds: new(int64(0)),
			AutomountServiceAccountToken:  new(false), EnableServiceLinks: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "probe", Image: r.pre.Probe.Image,
				Args: []string{
					"probe-consul", "--to=" + result, fmt.Sprintf("--consul-port=%d", r.consulPort()), "--consul-scheme=" + r.consulScheme(),
				},
				Env: []corev1.EnvVar{{
					Name:      contract.EnvHostIP,
					ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}},
				}},
				TerminationMessagePath: result, TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
				Resources: corev1.ResourceRequirements{
					Requests: resources("10m", "32Mi"), Limits: resources("100m", "32Mi"),
				},
			}},
		},
	}
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}
