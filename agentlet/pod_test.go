package agentlet

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestStaleStatusAfterARebootIsIgnored(t *testing.T) {
	identity := testIdentity
	identity.PodIP = "10.1.0.9"
	s := newState(identity)
	s.observePod(gated(ready(testPod(), true), gateOpen, contract.Registered), nil, time.Now())
	if s.ready() || s.gate.open() {
		t.Errorf("ready %v, open %v by a status with another address, want neither", s.ready(), s.gate.open())
	}
	if got := s.instances[webID].want.Address; got != "10.1.0.9" {
		t.Errorf("address %s, want the container's own", got)
	}
	fresh := ready(testPod(), true)
	fresh.Status.PodIP = "10.1.0.9"
	s.observePod(fresh, nil, time.Now())
	if !s.ready() {
		t.Error("not ready by a status with the own address")
	}
}

func TestNotReady(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{
				{Name: contract.ContainerName, RestartPolicy: &always}, {Name: "proxy", RestartPolicy: &always}, {Name: "setup"},
			},
			Containers: []corev1.Container{{Name: "app"}, {Name: "logs"}},
		},
	}
	status := func(name string) corev1.ContainerStatus { return corev1.ContainerStatus{Name: name, Ready: true} }
	cases := map[string]struct {
		init, main []corev1.ContainerStatus
		exclude    []string
		want       string
	}{
		"nothing is known yet":            {nil, nil, nil, "proxy app logs"},
		"native sidecars count":           {nil, []corev1.ContainerStatus{status("app"), status("logs")}, nil, "proxy"},
		"the agentlet itself doesn't":     {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app"), status("logs")}, nil, ""},
		"nor do init containers that end": {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app"), status("logs")}, nil, ""},
		"nor do excluded ones":            {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app")}, []string{"logs"}, ""},
	}
	for name, c := range cases {
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = c.init, c.main
		s := newState(testIdentity)
		s.pod, s.reg = pod, &registration.Registration{Settings: registration.Settings{Exclude: c.exclude}}
		if got := strings.Join(s.notReady(), " "); got != c.want {
			t.Errorf("%s: %q is not ready, want %q", name, got, c.want)
		}
	}
}

func TestPodEnded(t *testing.T) {
	over := func(policy corev1.RestartPolicy, exit int32, phase corev1.PodPhase) func(*Registrar) {
		return func(r *Registrar) {
			pod := testPod()
			pod.Spec.RestartPolicy, pod.Status.Phase = policy, phase
			for i := range pod.Status.ContainerStatuses {
				pod.Status.ContainerStatuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exit}}
			}
			r.OnUpdate(pod)
		}
	}
	for name, c := range map[string]struct {
		sign    func(r *Registrar)
		aborted bool
		want    bool
	}{
		"the process alone":           {sign: func(*Registrar) {}},
		"the container alone":         {sign: (*Registrar).PreStop},
		"called off":                  {sign: (*Registrar).PreStop, aborted: true},
		"deleted":                     {sign: func(r *Registrar) { r.OnUpdate(deleted(ready(testPod(), true))) }, want: true},
		"gone":                        {sign: (*Registrar).OnDelete, want: true},
		"finished":                    {sign: over(corev1.RestartPolicyNever, 1, corev1.PodFailed), want: true},
		"completed":                   {sign: over(corev1.RestartPolicyOnFailure, 0, corev1.PodRunning), want: true},
		"failed, to be started again": {sign: over(corev1.RestartPolicyOnFailure, 1, corev1.PodRunning)},
		"failed for good":             {sign: over(corev1.RestartPolicyNever, 1, corev1.PodRunning), want: true},
		"to be started again":         {sign: over(corev1.RestartPolicyAlways, 0, corev1.PodRunning)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, ended := started(t, newWorld(), testPod())
				c.sign(r)
				if !c.aborted {
					r.Terminate()
				}
				if err := <-ended; errors.Is(err, ErrTerminationAborted) != c.aborted {
					t.Errorf("ended with %v", err)
				}
				if got := r.PodEnded(); got != c.want {
					t.Errorf("the pod has ended: %t, want %t", got, c.want)
				}
			})
		})
	}
}

func TestChangedAnnotationsAreApplied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-tags", "a,b", "service-names", "web,admin"), true))
		after(time.Second)
		if tags := strings.Join(w.web().definition.Tags, " "); tags != "a b" {
			t.Errorf("tags %q, want the new ones", tags)
		}
		admin := contract.ServiceID("shop", "web-1", testUID, "admin")
		if w.inCatalog(admin) != contract.Passing {
			t.Error("the added service is not there")
		}
		r.OnUpdate(ready(testPod("service-names", "web", "heartbeat-ttl", "soon"), true))
		after(2 * time.Second)
		w.expectGate(t, "with invalid annotations", gateOpen, contract.InvalidConfiguration)
		if w.inCatalog(admin) != contract.Passing {
			t.Error("an invalid change lost the last valid registration")
		}
		r.OnUpdate(ready(testPod(), true))
		after(time.Second)
		if _, there := w.agent[admin]; there {
			t.Error("the removed service is still there")
		}
	})
}

func TestChangedLabelsAreApplied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod("tags-from-labels", "role"))
		pod := ready(testPod("tags-from-labels", "role"), true)
		pod.Labels = map[string]string{"role": "primary"}
		r.OnUpdate(pod)
		after(100 * time.Millisecond)
		if got := w.web().definition.Tags; !slices.Equal(got, []string{"primary"}) {
			t.Errorf("tags %q of a relabelled pod", got)
		}
	})
}

// TestReservedNameIsRejected: the name is refused whatever is allowed, and also of a pod that runs.
func TestReservedNameIsRejected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-names", "Consul"), true))
		after(2 * time.Second)
		w.expectGate(t, "named consul", gateOpen, contract.InvalidConfiguration, "Consul's own servers")
		if len(w.agent) != 1 || w.inCatalog(webID) != contract.Passing {
			t.Errorf("%d instances at the agent", len(w.agent))
		}
	})
}

func TestForbiddenTagsAreRejected(t *testing.T) {
	labelled := func(role string) *corev1.Pod {
		pod := ready(testPod("tags-from-labels", "role"), true)
		pod.Labels = map[string]string{"role": role}
		return pod
	}
	structured := ready(testPod("services", "- {name: web, port: 8080, tags: [v2, urlprefix-/]}"), true)
	delete(structured.Annotations, contract.ServiceNames)
	delete(structured.Annotations, contract.ServicePort)
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"flat":       {ready(testPod("service-tags", "v2,urlprefix-/"), true), `service-tags]: Forbidden: tag "urlprefix-/"`},
		"from label": {labelled("urlprefix-"), `tag "urlprefix-" (the value of label role)`},
		"structured": {structured, `services][0].tags[1]: Forbidden: tag "urlprefix-/"`},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.allowed.Tags = tagGlobs(t, "!urlprefix-*")
			r, _ := started(t, w, testPod("service-tags", "v1"))
			r.OnUpdate(test.pod)
			after(2 * time.Second)
			got := w.last()
			if got.Reason != string(contract.InvalidConfiguration) || got.Status != gateOpen ||
				!strings.Contains(got.Message, test.says) || !strings.Contains(got.Message, "may not register urlprefix-* (of a test)") {
				t.Errorf("the gate says %v %s: %s", got.Status, got.Reason, got.Message)
			}
			if tags := w.web().definition.Tags; w.inCatalog(webID) != contract.Passing || !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("the last valid registration did not stay as it was: %q", tags)
			}
			r.OnUpdate(labelled("v3"))
			after(time.Second)
			if tags := w.web().definition.Tags; !slices.Equal(tags, []string{"v3"}) || w.last().Reason != string(contract.Registered) {
				t.Errorf("an allowed tag is not followed: %q, %s", tags, w.last().Message)
			}
		})
	}
}

func TestForbiddenNamesAreRejected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.allowed.Services = serviceGlobs(t, "web,shop-*")
		r, _ := started(t, w, testPod())
		pay := contract.ServiceID("shop", "web-1", testUID, "pay")
		r.OnUpdate(ready(testPod("service-names", "web,pay", "service-tags", "a"), true))
		after(2 * time.Second)
		got := w.last()
		if got.Reason != string(contract.InvalidConfiguration) || got.Status != gateOpen ||
			!strings.Contains(got.Message, `service "pay"`) || !strings.Contains(got.Message, "web,shop-*") {
			t.Errorf("the gate says %v %s: %s", got.Status, got.Reason, got.Message)
		}
		if w.inCatalog(pay) != "" || w.inCatalog(webID) != contract.Passing || len(w.web().definition.Tags) > 0 {
			t.Error("the last valid registration did not stay as it was")
		}
		r.OnUpdate(ready(testPod("service-names", "web,shop-a"), true))
		after(time.Second)
		if w.inCatalog(contract.ServiceID("shop", "web-1", testUID, "shop-a")) != contract.Passing || w.last().Reason != string(contract.Registered) {
			t.Errorf("an allowed name is not followed: %s", w.last().Message)
		}
	})
}
