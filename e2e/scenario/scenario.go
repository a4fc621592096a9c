package scenario

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// S is one scenario under way.
type S struct {
	*testing.T
	*Env
	// Ctx ends with the scenario.
	Ctx context.Context
	// Namespace is the scenario's own: opted in, and so the webhook grants its injected pods what they need.
	Namespace string
	// Placement of the agentlet in the scenario's pods; empty where it is left to the default.
	Placement contract.PlacementMode
}

// Option of a scenario.
type Option func(*settings)

type settings struct {
	parallel bool
	long     bool
	bench    bool
	inPods   bool
	lasting  time.Duration
	labels   map[string]string
	placed   contract.PlacementMode
}

// Parallel lets the scenario run beside others. It may not break what they use, nor measure.
func Parallel() Option { return func(s *settings) { s.parallel = true } }

// Long marks a scenario that takes minutes; it runs in make soak, or when chosen by make e2e.
func Long() Option { return func(s *settings) { s.long = true } }

// Bench marks a scenario that measures; it runs in make bench, and elsewhere only where it is Long, too.
func Bench() Option { return func(s *settings) { s.bench = true } }

// Placed has the agentlet run there in the scenario's pods.
func Placed(place contract.PlacementMode) Option { return func(s *settings) { s.placed = place } }

// Lasting gives the scenario so much time instead of what others have.
func Lasting(d time.Duration) Option { return func(s *settings) { s.lasting = d } }

// ConsulInPods marks a scenario about the Consul of examples/consul; it runs with AGENTLET_CONSUL=in-cluster alone, as
// a long one.
func ConsulInPods() Option { return func(s *settings) { s.inPods, s.long = true, true } }

// Label sets a label of the scenario's namespace; an empty value removes it.
func Label(key, value string) Option {
	return func(s *settings) {
		if value == "" {
			delete(s.labels, key)
		} else {
			s.labels[key] = value
		}
	}
}

// Bounds of one scenario, and of one that is long or measures.
const (
	scenarioTimeout = 8 * time.Minute
	longTimeout     = 30 * time.Minute
)

// New starts a scenario in a namespace of its own, which goes with it.
func New(t *testing.T, options ...Option) *S {
	t.Helper()
	if shared == nil {
		t.Skip("SKIPPED: no cluster")
	}
	set := settings{labels: map[string]string{contract.InjectLabel: contract.InjectEnabled}}
	for _, option := range options {
		option(&set)
	}
	if set.inPods && !shared.InCluster() {
		t.Skip("wants Consul in pods; make soak runs it")
	}
	timeout := scenarioTimeout
	if set.long || set.bench {
		timeout = longTimeout
		wanted := set.long && os.Getenv("AGENTLET_LONG") != "" || set.bench && os.Getenv("AGENTLET_BENCH") != ""
		if !wanted {
			t.Skip("long; make soak or make bench runs it")
		}
	}
	if set.lasting > 0 {
		timeout = set.lasting
	}
	if set.parallel {
		t.Parallel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	s := &S{T: t, Env: shared, Ctx: ctx, Namespace: name(t.Name()), Placement: set.placed}
	s.must("create namespace", s.createNamespace(set))
	s.Afterwards(2*time.Minute, s.end)
	return s
}

// Afterwards has something done within this time when the scenario is over, also when it failed. The scenario's own
// context has ended by then. What was said last is done first.
func (s *S) Afterwards(within time.Duration, do func(ctx context.Context)) {
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		do(ctx)
	})
}

// name makes a namespace's name of a test's.
func name(test string) string {
	var suffix [3]byte
	_, _ = rand.Read(suffix[:]) // never fails
	test = strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(test, "Test")))
	return strings.Trim(test[:min(len(test), 40)], "-") + "-" + hex.EncodeToString(suffix[:])
}

func (s *S) createNamespace(set settings) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace, Labels: set.labels}}
	if _, err := s.Kube.CoreV1().Namespaces().Create(s.Ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	// The service account admission refuses pods before the namespace has its own.
	return s.poll(patience, "the default service account", func(ctx context.Context) (bool, error) {
		_, err := s.Kube.CoreV1().ServiceAccounts(s.Namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// end shows what there was to see if the scenario failed, and removes the namespace.
func (s *S) end(ctx context.Context) {
	if s.Failed() {
		s.dump(ctx)
	}
	// The workloads first: a namespace that goes with its pods takes its rights from them while they drain.
	if _, err := s.Kubectl(ctx, "-n", s.Namespace, "delete", "deployments,statefulsets,jobs,pods", "--all",
		"--timeout=90s"); err != nil {
		s.Errorf("remove workloads: %v", err)
	}
	if _, err := s.Kubectl(ctx, "delete", "namespace", s.Namespace, "--wait=false"); err != nil {
		s.Errorf("remove namespace: %v", err)
	}
}

// dumpedAgentlets is how many pods' logs a failure shows.
const dumpedAgentlets = 4

// dump logs the namespace's pods, events and agentlets' logs.
func (s *S) dump(ctx context.Context) {
	for _, args := range [][]string{
		{"get", "pods", "-o", "wide"},
		{"get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name}: {.status.conditions}{"\n"}{end}`},
		{"get", "events", "--field-selector=type!=Normal"},
	} {
		out, _ := s.Kubectl(ctx, append([]string{"-n", s.Namespace}, args...)...)
		s.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	}
	if s.InCluster() {
		s.Logf("Consul\n%s", s.consulState(ctx))
	}
	pods, err := s.Kube.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return
	}
	for _, pod := range pods.Items[:min(len(pods.Items), dumpedAgentlets)] {
		out, _ := s.Kubectl(ctx, "-n", s.Namespace, "logs", pod.Name, "-c", contract.ContainerName, "--tail=40")
		s.Logf("agentlet of %s\n%s", pod.Name, out)
	}
}

// Given is a step of a scenario, as When and Then are; each is logged with its duration, and a failure in one ends the scenario.
func (s *S) Given(what string, do func()) { s.Helper(); s.step("Given", what, do) }

// When is the step that is looked at.
func (s *S) When(what string, do func()) { s.Helper(); s.step("When", what, do) }

// Then is what must be so afterwards.
func (s *S) Then(what string, do func()) { s.Helper(); s.step("Then", what, do) }

func (s *S) step(kind, what string, do func()) {
	s.Helper()
	began := time.Now()
	do()
	s.Logf("%5s %s (%s)", kind, what, time.Since(began).Round(time.Millisecond))
	if s.Failed() {
		s.FailNow()
	}
}

// must ends the scenario on an error.
func (s *S) must(doing string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", doing, err)
	}
}

// Must ends the scenario on an error.
func (s *S) Must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// Pause lets time pass in which something must not happen.
func (s *S) Pause(d time.Duration) {
	s.Helper()
	select {
	case <-s.Ctx.Done():
		s.Fatal(s.Ctx.Err())
	case <-time.After(d):
	}
}

// pollInterval of Eventually.
const pollInterval = 50 * time.Millisecond

// patience of Eventually.
const patience = 2 * time.Minute

// Eventually waits for a condition, for two minutes at the most; the last reason why not is in the failure.
func (s *S) Eventually(what string, condition func(ctx context.Context) (bool, error)) {
	s.Helper()
	s.Within(patience, what, condition)
}

// Within is Eventually with a bound of its own.
func (s *S) Within(bound time.Duration, what string, condition func(ctx context.Context) (bool, error)) {
	s.Helper()
	s.must("wait for "+what, s.poll(bound, what, condition))
}

func (s *S) poll(bound time.Duration, what string, condition func(ctx context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(s.Ctx, bound)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		ok, err := condition(ctx)
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s never came: %w", what, errors.Join(ctx.Err(), err))
		case <-ticker.C:
		}
	}
}
