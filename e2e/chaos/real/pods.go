package real

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// Parts of the command lines by which the containers' processes are found.
const (
	agentletWords    = "agentlet run"
	applicationWords = "/sample"
	webhookWords     = "/agentlet-webhook"
)

// readyOn returns the campaign's Ready pods on a node that are not being deleted. It reads the watch's cache, because the API
// server may be down.
func (w *World) readyOn(_ context.Context, node int) (ready []*corev1.Pod) {
	for _, pod := range w.watch.pods(w.Namespace) {
		if pod.Spec.NodeName == w.Cluster.Nodes[node].Name && scenario.IsReady(pod) && pod.DeletionTimestamp == nil {
			ready = append(ready, pod)
		}
	}
	// Prefer pods with few restarts: the kubelet waits long before it restarts the others.
	slices.SortFunc(ready, func(a, b *corev1.Pod) int {
		if n := restarts(a) - restarts(b); n != 0 {
			return n
		}
		return strings.Compare(a.Name, b.Name)
	})
	return ready
}

func restarts(pod *corev1.Pod) (n int) {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		n += int(status.RestartCount)
	}
	return n
}

// one returns one of the campaign's Ready pods on a node, among those with the fewest restarts.
func (w *World) one(ctx context.Context, step chaos.Step) (*corev1.Pod, error) {
	ready := w.readyOn(ctx, step.Node)
	if len(ready) == 0 {
		return nil, fmt.Errorf("%w: no Ready pod on %s", chaos.ErrNothing, w.Cluster.Nodes[step.Node].Name)
	}
	fewest := slices.IndexFunc(ready, func(pod *corev1.Pod) bool { return restarts(pod) > restarts(ready[0]) })
	if fewest < 0 {
		fewest = len(ready)
	}
	return ready[step.Pick%fewest], nil
}

func agentletKilled(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	return killed(ctx, w, step, agentletWords)
}

func applicationKilled(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	return killed(ctx, w, step, applicationWords)
}

func killed(ctx context.Context, w *World, step chaos.Step, words string) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	if err := scenario.Kill(words, string(pod.UID)); err != nil {
		return pod.Name, nil, fmt.Errorf("%w: %w", chaos.ErrNothing, err) // the watch's cache was out of date
	}
	return pod.Name, nil, nil
}

func agentletKilledAgain(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	kills := 0
	end := inBackground(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			if scenario.Kill(agentletWords, string(pod.UID)) == nil { // no process runs during the kubelet's restart back-off
				kills++
			}
			sleep(ctx, time.Second)
		}
		return nil
	})
	return pod.Name, func(context.Context) (string, error) {
		err := end()
		return fmt.Sprintf("killed %d times", kills), err
	}, nil
}

func agentletFrozen(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	return frozen(pod.Name, agentletWords, string(pod.UID))
}

// frozen builds a fault that stops a container's process with SIGSTOP, and continues it at the end.
func frozen(name, words, environment string) (string, undo, error) {
	process, err := scenario.FindProcess(words, environment)
	if err != nil {
		return name, nil, fmt.Errorf("%w: %w", chaos.ErrNothing, err)
	}
	back := func(context.Context) (string, error) {
		if now, err := scenario.FindProcess(words, environment); err != nil || now != process {
			return "it has ended meanwhile", nil //nolint:nilerr // somebody deleted its pod
		}
		return "", syscall.Kill(process.PID, syscall.SIGCONT)
	}
	return name, back, syscall.Kill(process.PID, syscall.SIGSTOP)
}

func applicationUnready(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	back := func(ctx context.Context) (string, error) {
		gone := errors.New("gone")
		err := eventually(ctx, "have "+pod.Name+" ready", func(ctx context.Context) error {
			now := w.watch.pod(pod.UID)
			if now == nil || now.DeletionTimestamp != nil || now.Status.Phase != corev1.PodRunning {
				return fmt.Errorf("%w: %w", chaos.ErrNothing, gone)
			}
			return put(ctx, now.Status.PodIP, "/ready")
		})
		if errors.Is(err, gone) {
			return "it has ended meanwhile", nil
		}
		return "", err
	}
	return pod.Name, back, put(ctx, pod.Status.PodIP, "/unready")
}

// flaps is how many times an application changes its readiness in one step.
const flaps = 20

func applicationFlaps(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	for i := range flaps {
		if err := put(ctx, pod.Status.PodIP, []string{"/unready", "/ready"}[i%2]); err != nil {
			return pod.Name, nil, fmt.Errorf("%w: %w", chaos.ErrNothing, err)
		}
		sleep(ctx, 100*time.Millisecond)
	}
	return pod.Name, nil, nil
}

// Limits of unauthorized calls of /drain.
const (
	drainCalls   = 300
	drainCallers = 20
)

func drainCalled(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	nonce := ""
	if hook := pod.Spec.Containers[0].Lifecycle; hook != nil && hook.PreStop != nil && hook.PreStop.HTTPGet != nil {
		nonce = hook.PreStop.HTTPGet.HTTPHeaders[0].Value
	}
	answers := concurrently(ctx, drainCalls, drainCallers, func(ctx context.Context, i int) string {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+pod.Status.PodIP+":19500"+contract.DrainPath, nil)
		if err != nil {
			return err.Error()
		}
		if i%2 == 0 { // half of the calls know the nonce, which is in the pod's spec
			request.Header.Set(contract.NonceHeader, nonce)
		}
		return answer(http.DefaultClient, request)
	})
	return pod.Name + ": " + answers, nil, nil
}

// answer returns the status of a request, or its error.
func answer(client *http.Client, request *http.Request) string {
	response, err := client.Do(request)
	if err != nil {
		return "failed"
	}
	defer response.Body.Close()
	return response.Status
}

// concurrently runs do the given number of times, with limited concurrency, and counts the results.
func concurrently(ctx context.Context, times, atOnce int, do func(ctx context.Context, i int) string) string {
	var mu sync.Mutex
	counts := map[string]int{}
	var group sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i := range times {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			call, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			outcome := do(call, i)
			mu.Lock()
			defer mu.Unlock()
			counts[outcome]++
		})
	}
	group.Wait()
	var texts []string
	for outcome, n := range counts {
		texts = append(texts, fmt.Sprintf("%d %s", n, outcome))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// webhooks returns the webhook's Ready pods.
func (w *World) webhooks() (ready []*corev1.Pod) {
	for _, pod := range w.watch.pods(scenario.SystemNamespace) {
		if isWebhook(pod) && scenario.IsReady(pod) && pod.DeletionTimestamp == nil {
			ready = append(ready, pod)
		}
	}
	return ready
}

func isWebhook(pod *corev1.Pod) bool { return pod.Labels["app.kubernetes.io/component"] == "webhook" }

func (w *World) aWebhook(step chaos.Step) (*corev1.Pod, error) {
	ready := w.webhooks()
	if len(ready) == 0 {
		return nil, fmt.Errorf("%w: no Ready replica of the webhook", chaos.ErrNothing)
	}
	return ready[step.Pick%len(ready)], nil
}

func webhookKilled(_ context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.aWebhook(step)
	if err != nil {
		return "", nil, err
	}
	// The pod's name is its host name, which is in the process's environment.
	return pod.Name, nil, scenario.Kill(webhookWords, pod.Name)
}

func webhookFrozen(_ context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.aWebhook(step)
	if err != nil {
		return "", nil, err
	}
	return frozen(pod.Name, webhookWords, pod.Name)
}
