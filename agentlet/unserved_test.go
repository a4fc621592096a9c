package agentlet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// injectedFor has the pod hold an agentlet for which the injector has written down this pod.
func injectedFor(pod *corev1.Pod, original string) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
		Name: contract.ContainerName, Env: []corev1.EnvVar{{Name: contract.EnvInjectedFor, Value: original}},
	})
	return pod
}

// optsOut are the ways in which a person takes a running pod out.
func optsOut() map[string]func(*corev1.Pod) {
	return map[string]func(*corev1.Pod){
		"service-names are taken away": func(pod *corev1.Pod) { delete(pod.Annotations, contract.ServiceNames) },
		"no annotations are left":      func(pod *corev1.Pod) { pod.Annotations = nil },
		"by the annotation":            func(pod *corev1.Pod) { pod.Annotations[contract.InjectLabel] = contract.InjectDisabled },
		"by the label":                 func(pod *corev1.Pod) { pod.Labels = map[string]string{contract.InjectLabel: contract.InjectDisabled} },
	}
}

func TestOptingOutOfARunningPod(t *testing.T) {
	for name, optOut := range optsOut() {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, ended := started(t, w, testPod())
			out := ready(testPod(), true)
			optOut(out)
			r.OnUpdate(out)
			after(time.Second)
			if w.registered() || w.inCatalog(webID) != "" {
				t.Error("it is still registered")
			}
			w.expectGate(t, "opted out", gateOpen, contract.OptedOut, "not registered")
			after(time.Hour)
			if n := len(w.conditions()); n != 2 {
				t.Errorf("the condition was written %d times, want twice", n)
			}
			w.expectEvents(t, "Registered OptedOut")

			r.OnUpdate(ready(testPod(), true))
			after(time.Second)
			w.expectHealth(t, "asked for again", contract.Passing)
			w.expectGate(t, "asked for again", gateOpen, contract.Registered)
			w.expectNeverClosed(t)

			r.OnUpdate(out)
			after(time.Second)
			r.OnUpdate(deleted(out))
			r.Terminate()
			after(time.Second)
			if err := <-ended; err != nil || w.registered() {
				t.Errorf("Run = %v after the end of a pod that opted out, registered: %t", err, w.registered())
			}
		})
	}
}

func TestOptingOutOpensAClosedGate(t *testing.T) {
	for name, optOut := range optsOut() {
		runInWorld(t, name, func(t *testing.T, w *world) {
			pod := injectedFor(testPod(), "web-1")
			r, _ := w.start(t, pod)
			after(5 * time.Second)
			w.expectGate(t, "not ready", gateClosed, contract.ContainersNotReady)
			optOut(pod)
			r.OnUpdate(pod)
			after(time.Second)
			w.expectGate(t, "opted out", gateOpen, contract.OptedOut)
			if w.registered() {
				t.Error("it is still registered")
			}
		})
	}
}

// TestOptingOutWhileTheAgentIsAway: nothing is left to wait for, and what is at the agent goes when that is back.
func TestOptingOutWhileTheAgentIsAway(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.fails(ErrRefused)
		after(time.Minute)
		r.OnUpdate(ready(annotated("service-names", ""), true))
		after(time.Second)
		w.expectGate(t, "while the agent is away", gateOpen, contract.OptedOut)
		w.setFail(nil)
		after(time.Minute)
		if w.registered() {
			t.Error("it is still registered")
		}
	})
}

// TestOptedOutAcrossARestart: an agentlet that starts anew finds what the one before it has left.
func TestOptedOutAcrossARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.adopt(w.defined(testPod()))
		w.start(t, gated(ready(annotated("service-names", ""), true), gateOpen, contract.Registered))
		after(5 * time.Second)
		w.expectGate(t, "after the restart", gateOpen, contract.OptedOut)
		w.expectNeverClosed(t)
		if w.registered() {
			t.Error("it is still registered")
		}
	})
}

func TestInvalidAnnotationsAfterAnOptOut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(annotated("service-names", ""), true))
		after(time.Second)
		r.OnUpdate(ready(testPod("heartbeat-ttl", "soon"), true))
		after(2 * time.Second)
		w.expectGate(t, "asked for again, with an error", gateOpen, contract.InvalidConfiguration, "not registered: ", "soon")
		if w.registered() {
			t.Error("it is registered")
		}
		r.OnUpdate(ready(testPod(), true))
		after(time.Second)
		w.expectGate(t, "corrected", gateOpen, contract.Registered)
	})
}

func TestOverrideAfterAnOptOut(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		r.OnUpdate(ready(withLocalAPI("inject", "false"), true))
		after(time.Second)
		mustReject(t, r, maintain("a reason"), ErrOverrideConflict)
	})
}

func TestCopies(t *testing.T) {
	bare := func(change func(*corev1.Pod)) *corev1.Pod {
		pod := ready(testPod(), true)
		change(pod)
		return pod
	}
	same := bare(func(*corev1.Pod) {})
	none := bare(func(pod *corev1.Pod) { pod.Annotations = nil })
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		status corev1.ConditionStatus
		reason contract.Reason
		says   string
	}{
		"the pod that was meant":         {injectedFor(same, "web-1"), gateOpen, contract.Registered, ""},
		"of an older injection":          {same, gateOpen, contract.Registered, ""},
		"of another pod":                 {injectedFor(same, "web-0"), gateClosed, contract.CopiedPod, "injected for web-0"},
		"of a generated pod":             {injectedFor(same, "web-*"), gateClosed, contract.CopiedPod, "injected for web-*"},
		"of a pod of another namespace":  {injectedFor(same, "test/web-1"), gateClosed, contract.CopiedPod, "injected for test/web-1"},
		"without annotations":            {injectedFor(none, "web-0"), gateClosed, contract.CopiedPod, "injected for web-0"},
		"that opts out":                  {injectedFor(bare(optsOut()["by the label"]), "web-0"), gateOpen, contract.OptedOut, ""},
		"nothing is known, or annotated": {none, gateClosed, contract.InvalidConfiguration, "this pod has no agentlet annotations (a copy?)"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.start(t, c.pod)
			after(time.Minute)
			w.expectGate(t, "after a minute", c.status, c.reason, c.says)
			if w.registered() != (c.reason == contract.Registered) {
				t.Errorf("registered: %t", w.registered())
			}
		})
	}
}
