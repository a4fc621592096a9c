package agentlet

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/logtest"
)

// Containers of chainedPod with hooks of their own.
const (
	sleeper      = "app"
	called       = "api"
	sleeperSleep = 3 * time.Second
	calledPort   = 9000
)

// chainedPod has a container whose own hook sleeps, one whose own hook is a request, and one with the drain hook alone.
func chainedPod(annotations ...string) *corev1.Pod {
	pod := ready(testPod(annotations...), true)
	drainHook := func(own *corev1.LifecycleHandler) *corev1.Lifecycle {
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: registration.DrainPath(own), Port: intstr.FromInt32(19500), HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: "nonce"}},
		}}}
	}
	pod.Spec.Containers = []corev1.Container{
		{Name: sleeper, Lifecycle: drainHook(&corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(sleeperSleep / time.Second)}})},
		{Name: called, Lifecycle: drainHook(&corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/stop", Port: intstr.FromInt32(calledPort)}})},
		{Name: "log", Lifecycle: drainHook(nil)},
	}
	pod.Status.ContainerStatuses = nil
	for _, c := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	return pod
}

// amongOthers has the agentlet among the pod's containers.
func amongOthers(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: contract.ContainerName})
	return pod
}

// stopped is the pod after a container has ended.
func stopped(pod *corev1.Pod, names ...string) *corev1.Pod {
	pod = pod.DeepCopy()
	for i := range pod.Status.ContainerStatuses {
		if status := &pod.Status.ContainerStatuses[i]; slices.Contains(names, status.Name) {
			status.Ready, status.State = false, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		}
	}
	return pod
}

// hooked is how a drain hook was answered.
type hooked struct {
	drained bool
	took    time.Duration
}

// callHook calls a container's drain hook, as the kubelet does.
func callHook(ctx context.Context, r *Registrar, container string) <-chan hooked {
	answer := make(chan hooked, 1)
	began := time.Now()
	go func() {
		drained := r.DrainHook(ctx, container, time.Second)
		answer <- hooked{drained, time.Since(began)}
	}()
	return answer
}

// TestOwnHooks is about what happens to a container's own hook in each of the ways in which its drain hook may be called.
func TestOwnHooks(t *testing.T) {
	const (
		delay = 5 * time.Second // drain-delay
		alone = time.Second     // how long a container that is restarted alone is held
		grace = 30 * time.Second
	)
	end := func(r *Registrar) { r.OnUpdate(deleted(chainedPod())) }
	hangs := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	for name, c := range map[string]struct {
		container string
		sign      func(*Registrar)
		hook      func(ctx context.Context) error
		drained   bool
		took      time.Duration
		called    []int
		log       string
	}{
		"a sleep comes after the drain":             {sleeper, end, nil, true, delay + sleeperSleep, nil, "ran the container's own preStop hook"},
		"a request comes after the drain":           {called, end, nil, true, delay, []int{calledPort}, "ran the container's own preStop hook"},
		"API unknown":                               {called, (*Registrar).PreStop, nil, true, delay, []int{calledPort}, ""},
		"a slow one is waited for":                  {called, end, func(context.Context) error { time.Sleep(7 * time.Second); return nil }, true, delay + 7*time.Second, []int{calledPort}, "seconds=7"},
		"a failed one doesn't hold SIGTERM":         {called, end, func(context.Context) error { return errors.New("connection refused") }, true, delay, []int{calledPort}, `hook failed" container=api seconds=0 error="connection refused"`},
		"one that hangs ends with the grace period": {called, end, hangs, true, grace, []int{calledPort}, "cut off, because the grace period is over"},
		"a shortened grace period": {
			sleeper, func(r *Registrar) {
				pod := deleted(chainedPod("drain-delay", "0s"))
				pod.DeletionGracePeriodSeconds = new(int64(2))
				r.OnUpdate(pod)
			}, nil, true, 2 * time.Second, nil, "cut off",
		},
		"restarted alone, a sleep":          {sleeper, func(*Registrar) {}, nil, false, alone + sleeperSleep, nil, ""},
		"restarted alone, a request":        {called, func(*Registrar) {}, nil, false, alone, []int{calledPort}, ""},
		"restarted alone, one that hangs":   {called, func(*Registrar) {}, hangs, false, grace, []int{calledPort}, "cut off"},
		"the drain hook alone":              {"log", end, nil, true, delay, nil, "has no such hook"},
		"a container that there isn't":      {"http://10.0.0.1/", func(*Registrar) {}, nil, false, alone, nil, "has no such hook"},
		"opted out meanwhile":               {called, func(r *Registrar) { r.OnUpdate(deleted(chainedPod("service-names", ""))) }, nil, true, delay, []int{calledPort}, ""},
		"the pod is gone, for what we know": {called, (*Registrar).OnDelete, nil, true, delay, []int{calledPort}, ""},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			var log logtest.Log
			w.log, w.hook = slog.New(slog.NewTextHandler(&log, nil)), c.hook
			r, _ := started(t, w, chainedPod())
			answer := callHook(t.Context(), r, c.container)
			c.sign(r)
			got := <-answer
			if got.drained != c.drained || got.took < c.took || got.took > c.took+100*time.Millisecond {
				t.Errorf("drained %t after %s, want %t after %s", got.drained, got.took, c.drained, c.took)
			}
			if !slices.Equal(w.called, c.called) {
				t.Errorf("called %v, want %v", w.called, c.called)
			}
			if there := w.registered(); there == c.drained {
				t.Errorf("registered: %t", there)
			}
			if !strings.Contains(log.String(), c.log) {
				t.Errorf("the log lacks %q:\n%s", c.log, log.String())
			}
		})
	}
}

// TestOwnHookComesAfterTheCatalog: while the catalog has the pod, its hook is not called.
func TestOwnHookComesAfterTheCatalog(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.syncDelay = 300 * time.Millisecond
		seen := contract.Health("never called")
		w.hook = func(context.Context) error { seen = w.inCatalog(webID); return nil }
		r, _ := started(t, w, chainedPod("drain-delay", "0s"))
		r.OnUpdate(deleted(chainedPod("drain-delay", "0s")))
		if got := <-callHook(t.Context(), r, called); !got.drained || got.took < w.syncDelay || seen != "" {
			t.Errorf("called after %s, when the catalog said %q", got.took, seen)
		}
	})
}

func TestOwnHookEndsWithItsCaller(t *testing.T) {
	for name, container := range map[string]string{"a sleep": sleeper, "a request": called} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.hook = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			r, _ := started(t, w, chainedPod())
			ctx, cancel := context.WithCancel(t.Context())
			answer := callHook(ctx, r, container)
			after(2 * time.Second) // a second until it is clear that the container ends alone
			cancel()
			if got := <-answer; got.took != 2*time.Second {
				t.Errorf("it went on for %s", got.took)
			}
			synctest.Wait()
			if n := len(r.hookCalls); n > 0 {
				t.Errorf("%d calls are left", n)
			}
		})
	}
}

// TestOwnHooksAreBounded: whoever knows the nonce can't have more than maxHookCalls requests under way. What waits for a place
// ends with its caller, and leaves the place to others.
func TestOwnHooksAreBounded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var now, most atomic.Int64
		w.hook = func(ctx context.Context) error {
			defer now.Add(-1)
			most.Store(max(most.Load(), now.Add(1)))
			<-ctx.Done()
			return ctx.Err()
		}
		r, _ := started(t, w, chainedPod())
		ctx, cancel := context.WithCancel(t.Context())
		var answers []<-chan hooked
		for range maxHookCalls + 10 {
			answers = append(answers, callHook(ctx, r, called))
		}
		after(2 * time.Second)
		if n := now.Load(); n != maxHookCalls {
			t.Errorf("%d calls are under way, want %d", n, maxHookCalls)
		}
		cancel()
		for _, answer := range answers {
			<-answer
		}
		if most.Load() != maxHookCalls || now.Load() != 0 {
			t.Errorf("%d calls at most, want %d; %d are left", most.Load(), maxHookCalls, now.Load())
		}
		before := len(w.called)
		w.hook = nil
		if <-callHook(t.Context(), r, called); len(w.called) != before+1 {
			t.Error("the next call has no place")
		}
	})
}

// TestProcessAwaitsOwnHooks is about how long an agentlet lives for the hooks that it has to run. One that is among the pod's
// containers gets SIGTERM when these get their hooks, a native sidecar when they have ended.
func TestProcessAwaitsOwnHooks(t *testing.T) {
	const (
		delay = 5 * time.Second // drain-delay
		grace = 30 * time.Second
		slow  = 8 * time.Second // of the request
	)
	all := []string{sleeper, called}
	slowly := func(context.Context) error { time.Sleep(slow); return nil }
	for name, c := range map[string]struct {
		pod     *corev1.Pod
		hook    func(context.Context) error
		hooks   []string      // that are called
		late    time.Duration // when, after SIGTERM
		stopped []string      // containers that have ended when SIGTERM comes
		took    time.Duration // from SIGTERM to the end
	}{
		"the longest one":                      {amongOthers(chainedPod()), slowly, all, 0, nil, delay + slow},
		"one that hangs":                       {amongOthers(chainedPod()), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, all, 0, nil, grace},
		"nothing to drain, hooks that come":    {amongOthers(chainedPod("service-names", "")), slowly, all, lateHook / 2, nil, lateHook/2 + slow},
		"nothing to drain, no hooks":           {amongOthers(chainedPod("service-names", "")), slowly, nil, 0, nil, lateHook},
		"one of two doesn't come":              {amongOthers(chainedPod("service-names", "")), nil, []string{called}, 0, nil, lateHook},
		"containers that have ended":           {amongOthers(chainedPod("service-names", "")), nil, nil, 0, all, 0},
		"no hooks of their own":                {amongOthers(ready(testPod("service-names", ""), true)), nil, nil, 0, nil, 0},
		"a native sidecar, containers ended":   {chainedPod("service-names", ""), nil, nil, 0, all, 0},
		"a drain that lasts longer than hooks": {amongOthers(chainedPod()), nil, nil, 0, nil, delay},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.hook = c.hook
			pod := stopped(c.pod, c.stopped...)
			if pod.Annotations[contract.ServiceNames] == "" {
				delete(pod.Annotations, contract.ServiceNames)
			}
			r, ended := w.start(t, pod)
			after(time.Second)
			began := time.Now()
			r.Terminate()
			var answers []<-chan hooked
			time.Sleep(c.late)
			for _, container := range c.hooks {
				answers = append(answers, callHook(t.Context(), r, container))
			}
			err := <-ended
			if took := time.Since(began); err != nil || took < c.took || took > c.took+200*time.Millisecond {
				t.Errorf("Run = %v after %s, want after %s", err, took, c.took)
			}
			synctest.Wait()
			for i, answer := range answers {
				select {
				case got := <-answer:
					if !got.drained {
						t.Errorf("%s: answered before the drain", c.hooks[i])
					}
				default:
					t.Errorf("%s: the process ended before its hook", c.hooks[i])
				}
			}
		})
	}
}

// TestProcessCountsAnsweredHooks: only what is answered since the pod terminates is not awaited any more.
func TestProcessCountsAnsweredHooks(t *testing.T) {
	for name, c := range map[string]struct {
		sign func(*Registrar) // before the hooks are called
		took time.Duration    // from SIGTERM to the end
	}{
		"a native sidecar's SIGTERM comes after them":       {(*Registrar).PreStop, 0},
		"a container that was restarted alone gets another": {func(*Registrar) {}, lateHook},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			pod := chainedPod()
			delete(pod.Annotations, contract.ServiceNames) // there is nothing to drain
			r, ended := w.start(t, pod)
			after(time.Second)
			c.sign(r)
			for _, container := range []string{sleeper, called} {
				<-callHook(t.Context(), r, container)
			}
			began := time.Now()
			r.Terminate()
			if err := <-ended; err != nil || time.Since(began) != c.took {
				t.Errorf("Run = %v after %s, want after %s", err, time.Since(began), c.took)
			}
		})
	}
}

// TestProcessEndsWithTheGracePeriod: a request that doesn't end when it is told to holds nothing up.
func TestProcessEndsWithTheGracePeriod(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.hook = func(context.Context) error { time.Sleep(time.Hour); return nil }
		r, ended := w.start(t, chainedPod())
		after(time.Second)
		answer := callHook(t.Context(), r, called)
		began := time.Now()
		r.Terminate()
		if err := <-ended; err != nil || time.Since(began) > 31*time.Second {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
		<-answer
	})
}

// TestHookThatIsNotRun: the log says so, where nobody else would know.
func TestHookThatIsNotRun(t *testing.T) {
	for name, c := range map[string]struct {
		call    func(t *testing.T, r *Registrar, ended <-chan error) hooked
		drained bool
		want    string
	}{
		"the agentlet has ended": {func(t *testing.T, r *Registrar, ended <-chan error) hooked {
			r.Terminate()
			<-ended
			return <-callHook(t.Context(), r, called)
		}, true, "it came when the agentlet had ended"},
		"the caller goes during the drain": {func(t *testing.T, r *Registrar, _ <-chan error) hooked {
			ctx, cancel := context.WithCancel(t.Context())
			answer := callHook(ctx, r, called)
			r.PreStop()
			after(time.Second)
			cancel()
			return <-answer
		}, false, "the caller has gone"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			var log logtest.Log
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			r, ended := started(t, w, chainedPod())
			if got := c.call(t, r, ended); got.drained != c.drained {
				t.Errorf("drained %t, want %t", got.drained, c.drained)
			}
			if len(w.called) > 0 || !strings.Contains(log.String(), c.want) {
				t.Errorf("called %v, the log lacks %q:\n%s", w.called, c.want, log.String())
			}
		})
	}
}
