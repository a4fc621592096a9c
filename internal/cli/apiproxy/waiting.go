package apiproxy

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const (
	// justStarted is how long a started container may take until it answers.
	justStarted = 10 * time.Second
	// ClockSkew is how far a cluster's clock may be ahead of the user's.
	ClockSkew = time.Minute
)

// Waiting describes why a pod's agentlet, or another container, does not run.
type Waiting struct {
	// Why is the description, such as "the container agentlet waits: ImagePullBackOff: …".
	Why string
	// Stuck is set if the state needs an intervention. Otherwise the pod is starting.
	Stuck bool
	// Running is set if the container has run for so short a time that it may not answer yet.
	Running bool
	// crashed is the container whose log tells more, because it has run and ended; or empty. previous is set if it is created again:
	// until then the API server has no previous log.
	crashed  string
	previous bool
}

// AgentletWaits returns why the pod's agentlet does not run, as the kubelet reports it, or nil if it runs or if nothing is known
// of it.
func AgentletWaits(pod *corev1.Pod, now time.Time) *Waiting {
	if pod.Spec.NodeName == "" && pod.Status.Phase == corev1.PodPending {
		waiting := &Waiting{Why: "the pod is not scheduled"}
		if scheduled := Condition(pod, corev1.PodScheduled); scheduled != nil && scheduled.Message != "" {
			waiting.Why += ": " + scheduled.Message
		}
		return waiting
	}
	agentlet := registration.Agentlet(pod)
	// The kubelet starts init containers in this order. One that is no sidecar has to end before the next is started.
	for i := range pod.Spec.InitContainers {
		name := pod.Spec.InitContainers[i].Name
		status := statusOf(pod.Status.InitContainerStatuses, name)
		if &pod.Spec.InitContainers[i] == agentlet {
			return agentletWaits(pod, status, now)
		}
		if status == nil || status.State.Terminated != nil && status.State.Terminated.ExitCode == 0 {
			continue
		}
		if waiting := waits(status); waiting != nil && waiting.Stuck {
			waiting.Why += ", and the agentlet starts after it"
			return waiting
		}
	}
	if agentlet == nil {
		return nil
	}
	return agentletWaits(pod, statusOf(pod.Status.ContainerStatuses, agentlet.Name), now)
}

func agentletWaits(pod *corev1.Pod, status *corev1.ContainerStatus, now time.Time) *Waiting {
	if status == nil {
		if pod.Status.Phase == corev1.PodPending {
			return &Waiting{Why: "its containers are being created"}
		}
		return nil
	}
	running, ended := status.State.Running, status.LastTerminationState.Terminated
	if running != nil && ended == nil && now.Sub(running.StartedAt.Time) < justStarted {
		return &Waiting{Why: "the agentlet has just started", Running: true}
	}
	return waits(status)
}

// ContainerWaits returns which of the pod's own containers does not run, and why: the first stuck one, or else the first. It is
// nil if all run.
func ContainerWaits(pod *corev1.Pod) (first *Waiting) {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			status := &statuses[i]
			if status.Name == contract.ContainerName || status.State.Terminated != nil && status.State.Terminated.ExitCode == 0 {
				continue
			}
			waiting := waits(status)
			if waiting != nil && waiting.Stuck {
				return waiting
			}
			if first == nil {
				first = waiting
			}
		}
	}
	return first
}

// waits returns why a container does not run, or nil if it runs.
func waits(status *corev1.ContainerStatus) *Waiting {
	last := status.LastTerminationState.Terminated
	switch {
	case status.State.Terminated != nil:
		last = status.State.Terminated
		return &Waiting{Why: fmt.Sprintf("the container %s has ended: %s", status.Name, ended(last)), Stuck: true, crashed: status.Name}
	case status.State.Waiting == nil:
		return nil
	}
	reason := status.State.Waiting.Reason
	waiting := &Waiting{
		Why:   fmt.Sprintf("the container %s waits", status.Name),
		Stuck: reason != "" && !slices.Contains([]string{"ContainerCreating", "PodInitializing"}, reason),
	}
	for _, part := range []string{reason, status.State.Waiting.Message} {
		if part != "" {
			waiting.Why += ": " + part
		}
	}
	if last != nil {
		waiting.Why += "; before that it ended: " + ended(last)
		waiting.crashed, waiting.previous = status.Name, true
	}
	return waiting
}

func ended(state *corev1.ContainerStateTerminated) string {
	text := fmt.Sprintf("exit code %d", state.ExitCode)
	if state.Reason != "" && state.Reason != "Error" {
		text = state.Reason + ", " + text
	}
	return text
}

// Remedy returns the command that shows more about the problem.
func (w *Waiting) Remedy(pod *corev1.Pod) string {
	if w.crashed == "" {
		return fmt.Sprintf("kubectl -n %s describe pod %s", pod.Namespace, pod.Name)
	}
	command := fmt.Sprintf("kubectl -n %s logs %s -c %s", pod.Namespace, pod.Name, w.crashed)
	if w.previous {
		command += " --previous"
	}
	return command
}

func statusOf(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

// StartOf returns when the pod was started, or else created; ok is false if neither is known.
func StartOf(pod *corev1.Pod) (time.Time, bool) {
	for _, at := range []*metav1.Time{pod.Status.StartTime, &pod.CreationTimestamp} {
		if !at.IsZero() {
			return at.Time, true
		}
	}
	return time.Time{}, false
}

// Since returns how long ago something happened to the pod, at most the pod's age: a condition's time is only as reliable as the
// condition's writer. It returns false if the time is unknown.
func Since(at metav1.Time, pod *corev1.Pod, now time.Time) (time.Duration, bool) {
	start, known := StartOf(pod)
	when := at.Time
	if at.IsZero() || known && when.Before(start) || when.After(now.Add(ClockSkew)) {
		if when = start; !known {
			return 0, false
		}
	}
	return max(0, now.Sub(when)), true
}
