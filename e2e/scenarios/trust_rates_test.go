package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/doctest"
)

// TestTrustRatesAreBounded verifies the two rate limits of docs/security.md. It runs alone, because it restarts the API server.
func TestTrustRatesAreBounded(t *testing.T) {
	const flood = 10 * time.Second
	s := scenario.New(t, scenario.Long())
	var held *flooder
	s.Given("an unready pod, and its token", func() {
		serviceAccount(s, "web")
		createUnready(s, "own", "node1")
		awaitAccounts(s, "web")
		held = newFlooder(s, tokenInside(s, "own"))
		s.Eventually("the grant to be in force", func(context.Context) (bool, error) { _, err := held.patch(); return err == nil, err })
	})
	s.When("nothing limits it, it writes as fast as it can", func() {
		s.Logf("statuses: %s", held.statuses(flood))
		s.Logf("events: %s", held.events(flood))
	})
	s.When("the API server has the example's flow schema and the page's EventRateLimit", func() {
		file := filepath.Join(s.Root, "examples", "flowcontrol.yaml")
		s.Afterwards(time.Minute, func(ctx context.Context) {
			if _, err := s.Kubectl(ctx, "delete", "-f", file); err != nil {
				s.Error(err)
			}
		})
		_, err := s.Kubectl(s.Ctx, "apply", "-f", file)
		s.Must(err)
		limitEvents(s)
	})
	s.Then("the pod's writes have the example's level, and nothing else has", func() {
		level, err := s.Kube.FlowcontrolV1().PriorityLevelConfigurations().Get(s.Ctx, "agentlets", metav1.GetOptions{})
		s.Must(err)
		s.Eventually("the schema to be in force", func(context.Context) (bool, error) {
			_, err := held.patch()
			return held.level() == string(level.UID), err
		})
		_, err = held.client.CoreV1().Pods(s.Namespace).List(s.Ctx, metav1.ListOptions{})
		s.Must(err)
		if held.level() == string(level.UID) {
			s.Error("so has its reading of pods")
		}
	})
	s.Then("it can write an event per second", func() {
		f := held.events(flood)
		s.Logf("events: %s", f)
		// 25 in the burst, one per second, and one more at either end.
		if most := int64(25 + flood/time.Second + 2); f.written > most || f.refused < 100 {
			s.Errorf("events: %s, want at most %d", f, most)
		}
	})
	s.Then("it writes statuses on two or three seats, and another pod gets Ready meanwhile", func() {
		var f flooded
		var running sync.WaitGroup
		running.Go(func() { f = held.statuses(flood) })
		began := time.Now()
		_, err := s.CreatePod("other", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("other")
		took := time.Since(began)
		running.Wait()
		s.Logf("statuses: %s; another pod was Ready after %s", f, took.Round(100*time.Millisecond))
		if took > 30*time.Second {
			s.Errorf("another pod was Ready after %s", took)
		}
	})
}

// limitEvents restarts the API server with the configuration of docs/security.md. The original configuration is restored when the
// scenario is over.
func limitEvents(s *scenario.S) {
	s.Helper()
	pages, err := doctest.Pages(s.Root)
	s.Must(err)
	var text string
	for _, page := range pages {
		for _, block := range page.Blocks {
			if block.Kind() == "yaml admission" {
				text = block.Text
			}
		}
	}
	if text == "" {
		s.Fatal("no page has a configuration of admission")
	}
	file := filepath.Join(s.TempDir(), "admission.yaml")
	s.Must(os.WriteFile(file, []byte(text), 0o600))
	server := s.Cluster.APIServer()
	args := server.Args
	s.Afterwards(3*time.Minute, func(ctx context.Context) {
		server.Args = args
		if err := errors.Join(server.Restart(ctx), s.Cluster.Restore(ctx)); err != nil {
			s.Error(err)
		}
	})
	server.Args = append(slices.Clone(args), "--enable-admission-plugins=EventRateLimit", "--admission-control-config-file="+file)
	s.Must(server.Restart(s.Ctx))
	s.Must(s.Cluster.Restore(s.Ctx))
}

// flooder writes as fast as it can with a pod's token.
type flooder struct {
	s      *scenario.S
	client kubernetes.Interface
	pod    *corev1.Pod
	last   atomic.Pointer[string] // the priority level of the last answer
	n      atomic.Int64
}

// flooded is the result of a flood.
type flooded struct {
	written, refused, bytes int64
	over                    time.Duration
}

func (f flooded) String() string {
	seconds := f.over.Seconds()
	return fmt.Sprintf("%.0f/s written, %.0f/s refused, %.2f MiB/s", float64(f.written)/seconds, float64(f.refused)/seconds, float64(f.bytes)/seconds/(1<<20))
}

func newFlooder(s *scenario.S, token string) *flooder {
	s.Helper()
	f := &flooder{s: s, pod: s.Pod("own")}
	config, err := s.Cluster.RESTConfig()
	s.Must(err)
	config = rest.AnonymousClientConfig(config)
	config.BearerToken, config.QPS = token, -1
	config.Wrap(func(inner http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			answer, err := inner.RoundTrip(r)
			if err == nil {
				f.last.Store(new(answer.Header.Get("X-Kubernetes-PF-PriorityLevel-UID")))
			}
			return answer, err
		})
	})
	f.client, err = kubernetes.NewForConfig(config)
	s.Must(err)
	return f
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

func (f *flooder) level() string { return *f.last.Load() }

// patch writes the pod's own condition, each time with a different text of the maximum length.
func (f *flooder) patch() (size int, err error) {
	message := fmt.Sprintf("%d %s", f.n.Add(1), strings.Repeat("m", contract.MaxConditionMessage))[:contract.MaxConditionMessage]
	body := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"message":%q}]}}`, contract.Condition, message)
	pod, err := f.client.CoreV1().Pods(f.s.Namespace).Patch(f.s.Ctx, "own", types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
	return pod.Size(), err
}

func (f *flooder) event() (size int, err error) {
	now := metav1.Now()
	event, err := f.client.CoreV1().Events(f.s.Namespace).Create(f.s.Ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("own.%x", f.n.Add(1)), Namespace: f.s.Namespace},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: f.s.Namespace, Name: f.pod.Name, UID: f.pod.UID},
		Type:           corev1.EventTypeNormal, Reason: string(contract.Registered), Message: strings.Repeat("m", contract.MaxEventMessage),
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: corev1.EventSource{Component: contract.ContainerName}, ReportingController: contract.ReportingController, ReportingInstance: f.pod.Name,
	}, metav1.CreateOptions{})
	return event.Size(), err
}

// statuses floods with few connections, because they all change one object: more of them would conflict with each other.
func (f *flooder) statuses(d time.Duration) flooded { return f.during(d, 3, f.patch) }
func (f *flooder) events(d time.Duration) flooded   { return f.during(d, 16, f.event) }

// during calls write as often as possible, with this concurrency, and counts what etcd stores.
func (f *flooder) during(d time.Duration, at int, write func() (size int, err error)) flooded {
	ctx, cancel := context.WithTimeout(f.s.Ctx, d)
	defer cancel()
	var written, refused, bytes atomic.Int64
	var running sync.WaitGroup
	began := time.Now()
	for range at {
		running.Go(func() {
			for ctx.Err() == nil {
				switch size, err := write(); {
				case err == nil:
					written.Add(1)
					bytes.Add(int64(size))
				case apierrors.IsTooManyRequests(err), apierrors.IsConflict(err):
					refused.Add(1)
				default:
					f.s.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	return flooded{written.Load(), refused.Load(), bytes.Load(), time.Since(began)}
}
