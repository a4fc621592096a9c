package agentlet

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestStaleStatusAfterARebootIsIgnored(t *testing.T) {
	identity := testIdentity
	identity.PodIP = "10.1.0.9"
	s := newState(identity)
	s.observePod(opened(), nil, time.Now())
	if s.ready() || s.gate.open() {
		t.Errorf("ready %v, open %v with another address in the status, want neither", s.ready(), s.gate.open())
	}
	if got := s.instances[webID].want.Address; got != "10.1.0.9" {
		t.Errorf("address %s, want the container's own", got)
	}
	fresh := ready(testPod(), true)
	fresh.Status.PodIP = "10.1.0.9"
	s.observePod(fresh, nil, time.Now())
	if !s.ready() {
		t.Error("not ready with its own address in the status")
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
	for name, c := range map[string]struct {
		init, main []corev1.ContainerStatus
		exclude    []string
		want       string
	}{
		"no statuses":                            {nil, nil, nil, "proxy app logs"},
		"native sidecars count":                  {nil, []corev1.ContainerStatus{status("app"), status("logs")}, nil, "proxy"},
		"agentlet and init containers don't":     {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app"), status("logs")}, nil, ""},
		"excluded containers don't count either": {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app")}, []string{"logs"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = c.init, c.main
			s := newState(testIdentity)
			s.pod, s.reg = pod, &registration.Registration{Settings: registration.Settings{Exclude: c.exclude}}
			if got := strings.Join(s.notReady(), " "); got != c.want {
				t.Errorf("%q is not ready, want %q", got, c.want)
			}
		})
	}
}

// TestTheAgentletIsNoneOfTheApplications: as one of the pod's containers it runs on when these have ended.
func TestTheAgentletIsNoneOfTheApplications(t *testing.T) {
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	for name, c := range map[string]struct {
		application        corev1.ContainerState
		running, completed bool
	}{"it runs": {runs, true, false}, "it has ended": {ended, false, true}} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}}
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{
				{Name: contract.ContainerName, State: runs}, {Name: "app", State: c.application}, // sorted by name
			}
			if running(pod) != c.running || completed(pod) != c.completed {
				t.Errorf("running %t, completed %t, want %t, %t", running(pod), completed(pod), c.running, c.completed)
			}
		})
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
		sign func(r *Registrar)
		want bool
	}{
		"the process alone":           {func(*Registrar) {}, false},
		"the container alone":         {(*Registrar).PreStop, false},
		"deleted":                     {deletes, true},
		"gone":                        {(*Registrar).OnDelete, true},
		"finished":                    {over(corev1.RestartPolicyNever, 1, corev1.PodFailed), true},
		"completed":                   {over(corev1.RestartPolicyOnFailure, 0, corev1.PodRunning), true},
		"failed, to be started again": {over(corev1.RestartPolicyOnFailure, 1, corev1.PodRunning), false},
		"failed for good":             {over(corev1.RestartPolicyNever, 1, corev1.PodRunning), true},
		"to be started again":         {over(corev1.RestartPolicyAlways, 0, corev1.PodRunning), false},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, ended := started(t, w, testPod())
			c.sign(r)
			r.Terminate()
			if err := <-ended; err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
			if got := r.PodEnded(); got != c.want {
				t.Errorf("the pod has ended: %t, want %t", got, c.want)
			}
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
		admin := serviceID("admin")
		if w.inCatalog(admin) != contract.Passing {
			t.Error("the added service is not in the catalog")
		}
		r.OnUpdate(ready(testPod("service-names", "web", "heartbeat-ttl", "soon"), true))
		after(2 * time.Second)
		w.expectGate(t, "with invalid annotations", gateOpen, contract.InvalidConfiguration)
		if w.inCatalog(admin) != contract.Passing {
			t.Error("invalid annotations removed the last valid registration")
		}
		r.OnUpdate(ready(testPod(), true))
		after(time.Second)
		if _, there := w.agent[admin]; there {
			t.Error("the removed service is still at the agent")
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
			t.Errorf("tags %q, want the new label's", got)
		}
	})
}

// TestThePodsOwnNamesAreReplaced holds that an allowed tag is the one that is registered, and not what stands for it.
func TestThePodsOwnNamesAreReplaced(t *testing.T) {
	named := func(tag string) *corev1.Pod {
		pod := ready(testPod("service-tags", tag, "service-meta", "at:${NODE_NAME}/${POD_NAMESPACE}"), true)
		pod.Spec.NodeName = "node1"
		return pod
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.allowed.Tags = tagGlobs(t, "!web-*")
		r, _ := started(t, w, named("pod-${POD_NAME}"))
		d := w.web().definition
		if !slices.Equal(d.Tags, []string{"pod-web-1"}) || d.Meta["at"] != "node1/shop" {
			t.Errorf("tags %q, meta %q", d.Tags, d.Meta)
		}
		r.OnUpdate(named("${POD_NAME}"))
		after(2 * time.Second)
		w.expectGate(t, "with a name that may be no tag", gateOpen, contract.InvalidConfiguration, `tag "web-1"`)
	})
}

// TestReservedNameIsRejected: the name is rejected whatever is allowed, also in a running pod.
func TestReservedNameIsRejected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-names", "Consul"), true))
		after(2 * time.Second)
		w.expectGate(t, "with the reserved name", gateOpen, contract.InvalidConfiguration, "Consul's own servers")
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
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"flat":         {ready(testPod("service-tags", "v2,urlprefix-/"), true), `service-tags]: Forbidden: tag "urlprefix-/"`},
		"from a label": {labelled("urlprefix-"), `tag "urlprefix-" (the value of label role)`},
		"structured":   {ready(structured("{name: web, port: 8080, tags: [v2, urlprefix-/]}"), true), `services][0].tags[1]: Forbidden: tag "urlprefix-/"`},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.allowed.Tags = tagGlobs(t, "!urlprefix-*")
			r, _ := started(t, w, testPod("service-tags", "v1"))
			r.OnUpdate(c.pod)
			after(2 * time.Second)
			w.expectGate(t, "with a forbidden tag", gateOpen, contract.InvalidConfiguration, c.says, "may not register urlprefix-* (of a test)")
			if tags := w.web().definition.Tags; w.inCatalog(webID) != contract.Passing || !slices.Equal(tags, []string{"v1"}) {
				t.Errorf("the last valid registration has changed: tags %q", tags)
			}
			r.OnUpdate(labelled("v3"))
			after(time.Second)
			w.expectGate(t, "with an allowed tag", gateOpen, contract.Registered)
			if tags := w.web().definition.Tags; !slices.Equal(tags, []string{"v3"}) {
				t.Errorf("tags %q, want the allowed one", tags)
			}
		})
	}
}

func TestForbiddenNamesAreRejected(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.allowed.Services = serviceGlobs(t, "web,shop-*")
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-names", "web,pay", "service-tags", "a"), true))
		after(2 * time.Second)
		w.expectGate(t, "with a forbidden name", gateOpen, contract.InvalidConfiguration, `service "pay"`, "web,shop-*")
		if w.inCatalog(serviceID("pay")) != "" || w.inCatalog(webID) != contract.Passing || len(w.web().definition.Tags) > 0 {
			t.Error("the last valid registration has changed")
		}
		r.OnUpdate(ready(testPod("service-names", "web,shop-a"), true))
		after(time.Second)
		w.expectGate(t, "with an allowed name", gateOpen, contract.Registered)
		if w.inCatalog(serviceID("shop-a")) != contract.Passing {
			t.Error("the service with the allowed name is not in the catalog")
		}
	})
}
