package agentlet

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func tag(tags ...string) Override { return Override{Tags: &tags} }

// mustOverride requests an override, and fails the test when it is rejected.
func mustOverride(t *testing.T, r *Registrar, o Override) (inCatalog bool) {
	t.Helper()
	inCatalog, err := override(t, r, o)
	if err != nil {
		t.Fatalf("rejected: %v", err)
	}
	return inCatalog
}

// mustReject requests an override, and fails the test when it is not rejected with an error of this kind.
func mustReject(t *testing.T, r *Registrar, o Override, kind error) {
	t.Helper()
	if _, err := override(t, r, o); !errors.Is(err, kind) {
		t.Errorf("answered with %v, want %v", err, kind)
	}
}

// override requests an override, and waits for the catalog as long as the local API does.
func override(t *testing.T, r *Registrar, o Override) (inCatalog bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	return r.Override(ctx, o)
}

func TestMaintenanceMakesTheInstanceCritical(t *testing.T) {
	for name, annotations := range map[string][]string{
		"gate-policy once": nil, "gate-policy continuous": {"gate-policy", "continuous"}, "no gate": {"gate", "off"},
		"a fixed health": {"service-health", "passing"}, "gate registered": {"gate", "registered"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, withLocalAPI(annotations...))
			registered, writes := w.count("register"), len(w.conditions())
			if !mustOverride(t, r, maintain("compaction")) {
				t.Error("answered before the catalog had it")
			}
			if e := w.web(); w.inCatalog(webID) != contract.Critical || e.output != "maintenance: compaction" {
				t.Errorf("the catalog says %q, with %q", w.inCatalog(webID), e.output)
			}
			after(time.Minute)
			if !mustOverride(t, r, resume()) || w.inCatalog(webID) != contract.Passing {
				t.Errorf("after it the catalog says %q", w.inCatalog(webID))
			}
			after(time.Minute)
			if n := w.count("register") - registered; n != 2 { // what tells of it is part of the registration
				t.Errorf("registered anew %d times, want once at its begin and once at its end", n)
			}
			if n := len(w.conditions()) - writes; n != 0 {
				t.Errorf("the gate was written %d times: %+v", n, w.last())
			}
		})
	}
}

func TestQuietHourOfMaintenance(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		mustOverride(t, r, maintain("compaction"))
		after(time.Minute)
		index, gates := w.changes(), w.count("gate")
		mustOverride(t, r, maintain("compaction"))
		after(time.Hour)
		if w.changes() != index || w.count("gate") != gates {
			t.Errorf("an hour of it wrote %d times to the catalog, and %d times to the API server", w.changes()-index, w.count("gate")-gates)
		}
	})
}

func TestMaintenanceAndReadiness(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		says := func(when, output string) {
			t.Helper()
			after(time.Second)
			if e := w.web(); e.readiness != contract.Critical || e.output != output {
				t.Errorf("%s the check is %q with %q, want %q", when, e.readiness, e.output, output)
			}
		}
		r.OnUpdate(ready(withLocalAPI(), false))
		mustOverride(t, r, maintain("compaction"))
		says("in maintenance, unready,", "maintenance: compaction")
		mustOverride(t, r, maintain("restore"))
		says("with another reason", "maintenance: restore")
		mustOverride(t, r, resume())
		says("unready after it", "the pod's containers are not ready")
		mustOverride(t, r, maintain("again"))
		r.OnUpdate(ready(withLocalAPI(), true))
		says("ready in maintenance", "maintenance: again")
	})
}

func TestClosedGateWaitsForTheEndOfAMaintenance(t *testing.T) {
	for mode, open := range map[string]bool{"passing": false, "registered": true} {
		runInWorld(t, mode, func(t *testing.T, w *world) {
			r, _ := w.start(t, withLocalAPI("gate", mode))
			synctest.Wait()
			mustOverride(t, r, maintain("restoring"))
			r.OnUpdate(ready(withLocalAPI("gate", mode), true))
			after(time.Minute)
			w.expectHealth(t, "in maintenance", contract.Critical)
			if open {
				w.expectGate(t, "in maintenance", gateOpen, contract.Registered)
			} else {
				w.expectGate(t, "in maintenance", gateClosed, contract.AwaitingCatalog, "in maintenance mode, set by the application")
			}
			mustOverride(t, r, resume())
			after(time.Second)
			w.expectHealth(t, "resumed", contract.Passing)
			w.expectGate(t, "resumed", gateOpen, contract.Registered)
		})
	}
}

func TestMaintenanceIsReported(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		mustOverride(t, r, maintain("compaction"))
		mustOverride(t, r, tag("primary"))
		after(time.Second)
		if s := r.Status(); s.Maintenance != "maintenance: compaction" || !slices.Equal(s.Tags, []string{"primary"}) {
			t.Errorf("the status says %q and %q", s.Maintenance, s.Tags)
		}
		if got := scrape(t, r); got[metricMaintenance] != 1 {
			t.Errorf("the metrics are %v", got)
		}
		after(10 * time.Minute)
		mustOverride(t, r, resume())
		after(time.Second)
		w.expectEvents(t, "Registered Maintenance Registered")
	})
}

func TestTagOverride(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI("service-tags", "v1"))
		has := func(when string, tags ...string) {
			t.Helper()
			if got := w.web().definition.Tags; !slices.Equal(got, tags) || w.inCatalog(webID) != contract.Passing {
				t.Errorf("%s: tags %q, want %q", when, got, tags)
			}
		}
		if !mustOverride(t, r, tag("primary", "v1")) {
			t.Error("answered before the catalog had them")
		}
		has("added, one of them twice", "v1", "primary")
		after(time.Hour)
		has("an hour later", "v1", "primary")
		r.OnUpdate(ready(withLocalAPI("service-tags", "v2"), true))
		after(time.Second)
		has("beside changed annotations", "v2", "primary", "v1")
		mustOverride(t, r, tag("replica"))
		has("replaced", "v2", "replica")
		mustOverride(t, r, tag())
		has("withdrawn", "v2")
		mustOverride(t, r, tag("primary"))
		w.set(func() { clear(w.agent) })
		after(5 * time.Second)
		has("after the agent has lost its data", "v2", "primary")
	})
}

func TestMaintenanceSurvivesALossOfTheAgentsData(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		mustOverride(t, r, maintain("compaction"))
		w.set(func() { clear(w.agent) })
		after(5 * time.Second)
		if e := w.web(); e.readiness != contract.Critical || e.output != "maintenance: compaction" {
			t.Errorf("registered again as %q with %q, want critical in maintenance", e.readiness, e.output)
		}
	})
}

// startedAt is a pod whose container was started then, for the n-th time.
func startedAt(pod *corev1.Pod, at time.Time, n int32) *corev1.Pod {
	pod = pod.DeepCopy()
	status := &pod.Status.ContainerStatuses[0]
	status.RestartCount, status.State.Running.StartedAt = n, metav1.NewTime(at.Truncate(time.Second))
	return pod
}

func TestMaintenanceAfterARestart(t *testing.T) {
	for name, c := range map[string]struct {
		pod   func(began time.Time) *corev1.Pod // as the restarted agentlet sees it
		stays bool
	}{
		"of the agentlet alone": {func(time.Time) *corev1.Pod { return ready(withLocalAPI(), true) }, true},
		"of the agentlet alone, after earlier ones of the application": {func(began time.Time) *corev1.Pod {
			return startedAt(ready(withLocalAPI(), true), began.Add(-2*time.Second), 3)
		}, true},
		"of the agentlet and the application": {func(began time.Time) *corev1.Pod {
			return startedAt(ready(withLocalAPI(), true), began.Add(300*time.Millisecond), 1)
		}, false},
		"of the agentlet, with the local API disabled": {func(time.Time) *corev1.Pod { return ready(testPod(), true) }, false},
	} {
		restarted := func(t *testing.T, w *world) {
			definition := w.defined(withLocalAPI("service-tags", "primary")) // the tag is the application's
			definition.Maintenance = "maintenance: compaction"
			w.adopt(definition)
			w.editWeb(func(e *agentEntry) {
				if e.readiness = contract.Critical; !w.discards {
					e.output = definition.Maintenance
				}
			})
			time.Sleep(time.Hour)
			r, _ := w.start(t, gated(c.pod(time.Now()), gateOpen, contract.Registered))
			after(time.Second)
			want := contract.Passing
			if c.stays {
				want = contract.Critical
			}
			if e := w.web(); e.readiness != want || len(e.definition.Tags) > 0 || (e.definition.Maintenance != "") != c.stays {
				t.Errorf("the check is %q, want %q; tags %q, want none; maintenance %q", e.readiness, want, e.definition.Tags, e.definition.Maintenance)
			}
			if c.stays {
				if e := w.web(); !w.discards && e.output != "maintenance: compaction" {
					t.Errorf("the check says %q", e.output)
				}
				mustOverride(t, r, resume())
				w.expectHealth(t, "resumed", contract.Passing)
			}
		}
		runInWorld(t, name, restarted)
		runInWorld(t, name+", where Consul discards output", func(t *testing.T, w *world) {
			w.discards = true
			restarted(t, w)
		})
	}
}

func TestOverridesEndWithTheApplication(t *testing.T) {
	// second adds a container that was started then, after this many restarts.
	second := func(pod *corev1.Pod, at time.Time, restarts int32) *corev1.Pod {
		pod = pod.DeepCopy()
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "logs"})
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: "logs", Ready: true, RestartCount: restarts, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(at)}},
		})
		return pod
	}
	for name, c := range map[string]struct {
		annotations []string
		pod         func(pod *corev1.Pod, set time.Time) *corev1.Pod // as it is after the override, which was set then
		stays       bool
	}{
		"the container restarts":         {nil, func(pod *corev1.Pod, set time.Time) *corev1.Pod { return startedAt(pod, set.Add(2*time.Second), 1) }, false},
		"the container restarted before": {nil, func(pod *corev1.Pod, set time.Time) *corev1.Pod { return startedAt(pod, set.Add(-2*time.Second), 1) }, true},
		"its restart is seen late":       {nil, func(pod *corev1.Pod, set time.Time) *corev1.Pod { return startedAt(pod, set, 1) }, true},
		"another container starts":       {nil, func(pod *corev1.Pod, set time.Time) *corev1.Pod { return second(pod, set.Add(5*time.Second), 0) }, true},
		"an excluded container restarts": {
			[]string{"container-exclude", "logs"}, func(pod *corev1.Pod, set time.Time) *corev1.Pod { return second(pod, set.Add(5*time.Second), 1) }, true,
		},
		"the annotation is removed": {nil, func(pod *corev1.Pod, _ time.Time) *corev1.Pod {
			pod = pod.DeepCopy()
			delete(pod.Annotations, contract.LocalAPI)
			return pod
		}, false},
		"the annotations become invalid": {nil, func(pod *corev1.Pod, _ time.Time) *corev1.Pod {
			pod = pod.DeepCopy()
			pod.Annotations[contract.LocalAPI] = "on"
			return pod
		}, true},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			pod := withLocalAPI(c.annotations...)
			r, _ := started(t, w, pod)
			after(time.Hour + 300*time.Millisecond)
			set := time.Now()
			mustOverride(t, r, tag("primary"))
			mustOverride(t, r, maintain("compaction"))
			after(10 * time.Second)
			r.OnUpdate(c.pod(ready(pod, true), set))
			after(time.Second)
			e := w.web()
			if tags, out := len(e.definition.Tags) == 1, w.inCatalog(webID) == contract.Critical; tags != c.stays || out != c.stays {
				t.Errorf("tags %q, and %q in the catalog; want both overrides to stay: %v", e.definition.Tags, w.inCatalog(webID), c.stays)
			}
		})
	}
}

func TestRejectedOverrides(t *testing.T) {
	runInWorld(t, "before the pod is known", func(t *testing.T, w *world) {
		r, _ := w.start(t)
		mustReject(t, r, maintain("x"), ErrOverrideUnavailable)
	})
	runInWorld(t, "without the annotation", func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		mustReject(t, r, maintain("x"), ErrOverrideForbidden)
		mustReject(t, r, tag("primary"), ErrOverrideForbidden)
		w.expectHealth(t, "after rejected overrides", contract.Passing)
	})
	runInWorld(t, "a forbidden tag", func(t *testing.T, w *world) {
		w.allowed.Tags = tagGlobs(t, "!urlprefix-*")
		r, _ := started(t, w, withLocalAPI())
		mustOverride(t, r, tag("primary"))
		mustReject(t, r, tag("replica", "URLprefix-/admin"), ErrOverrideForbidden)
		_, err := override(t, r, tag("replica", "URLprefix-/admin"))
		if want := `tags[1]: "URLprefix-/admin": pods of this namespace may not register urlprefix-* (of a test)`; err == nil || err.Error() != want {
			t.Errorf("answered with %v, want %s", err, want)
		}
		after(time.Second)
		if tags := w.web().definition.Tags; !slices.Equal(tags, []string{"primary"}) {
			t.Errorf("the catalog has %q", tags)
		}
	})
	runInWorld(t, "in the drain and after it", func(t *testing.T, w *world) {
		r, ended := started(t, w, withLocalAPI())
		mustOverride(t, r, maintain("compaction"))
		r.OnUpdate(deleted(ready(withLocalAPI(), true)))
		mustReject(t, r, resume(), ErrOverrideConflict)
		if !r.Drain(t.Context(), time.Second) || w.inCatalog(webID) != "" {
			t.Errorf("after the drain the catalog says %q", w.inCatalog(webID))
		}
		r.Terminate()
		<-ended
		mustReject(t, r, resume(), ErrOverrideUnavailable)
	})
	runInWorld(t, "tags under enable_tag_override", func(t *testing.T, w *world) {
		r, _ := started(t, w, structured("{name: web, port: 8080, enable_tag_override: true}", "local-api", "enabled"))
		mustReject(t, r, tag("primary"), ErrOverrideConflict)
		mustOverride(t, r, tag())
	})
	runInWorld(t, "too many changes", func(t *testing.T, w *world) {
		r, _ := started(t, w, withLocalAPI())
		began := time.Now()
		for i := range changesAtOnce {
			mustOverride(t, r, tag(string(rune('a'+i))))
		}
		if took := time.Since(began); took >= changeEvery {
			t.Fatalf("%d changes took %s", changesAtOnce, took)
		}
		mustReject(t, r, tag("more"), ErrTooManyOverrides)
		for range 100 {
			mustOverride(t, r, tag(string(rune('a'+changesAtOnce-1)))) // the same again
		}
		after(changeEvery)
		mustOverride(t, r, tag("more"))
		mustReject(t, r, maintain("more"), ErrTooManyOverrides)
	})
}

func TestOverrideWaitsForTheCatalog(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(w *world)
		ready     bool
		takes     time.Duration
		inCatalog bool
	}{
		"a slow sync":       {func(w *world) { w.syncDelay = 700 * time.Millisecond }, true, 700 * time.Millisecond, true},
		"no sync":           {func(w *world) { w.sync = false }, true, 3 * time.Second, false},
		"the agent refuses": {func(w *world) { w.fail = failingConsul(ErrRefused) }, true, 3 * time.Second, false},
		"an unready pod":    {func(*world) {}, false, 0, true},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := w.start(t, ready(withLocalAPI(), c.ready))
			after(time.Second)
			w.locked(func() { c.change(w) })
			for _, o := range []Override{tag("primary"), maintain("compaction")} {
				began := time.Now()
				inCatalog, err := override(t, r, o)
				if took := time.Since(began); err != nil || inCatalog != c.inCatalog || took < c.takes || took > c.takes+100*time.Millisecond {
					t.Errorf("answered %v, %v after %s, want %v after %s", inCatalog, err, took, c.inCatalog, c.takes)
				}
			}
		})
	}
}

// TestMaintenanceIsRestoredInTheSameOrder has two instances in maintenance, with different reasons.
func TestMaintenanceIsRestoredInTheSameOrder(t *testing.T) {
	for range 20 {
		s := newState(testIdentity)
		s.restoreMaintenance(map[string]Observed{
			serviceID("web"):   {MaintenanceOutput: contract.MaintenanceOutput + "second"},
			serviceID("admin"): {MaintenanceOutput: contract.MaintenanceOutput + "first"},
		})
		if s.overrides.reason != "first" {
			t.Fatalf("restored %q, want that of the first instance by its ID", s.overrides.reason)
		}
	}
}
