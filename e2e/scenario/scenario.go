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
	"github.com/agentlet/agentlet/e2e/cluster/current"
)

// S is a running scenario.
type S struct {
	*testing.T
	*Env
	// Ctx is cancelled when the scenario ends.
	Ctx context.Context
	// Namespace is the scenario's own. It is opted in, so the webhook grants its injected pods what they need.
	Namespace string
	// Placement is where the agentlet runs in the scenario's pods; empty for the default.
	Placement contract.PlacementMode
}

// Option configures a scenario.
type Option func(*settings)

type settings struct {
	parallel bool
	long     bool
	bench    bool
	inPods   bool
	anywhere bool
	lasting  time.Duration
	labels   map[string]string
	placed   contract.PlacementMode
}

// Parallel lets the scenario run beside others. Such a scenario must not break what others use, and must not measure.
func Parallel() Option { return func(s *settings) { s.parallel = true } }

// Long marks a scenario that takes minutes. It runs in `make soak`, or when `make e2e` names it.
func Long() Option { return func(s *settings) { s.long = true } }

// Bench marks a scenario that measures. It runs in `make bench`; if it is also Long, in `make soak` too.
func Bench() Option { return func(s *settings) { s.bench = true } }

// Placed sets where the agentlet runs in the scenario's pods.
func Placed(place contract.PlacementMode) Option { return func(s *settings) { s.placed = place } }

// Lasting sets the scenario's time limit.
func Lasting(d time.Duration) Option { return func(s *settings) { s.lasting = d } }

// ConsulInPods marks a scenario about the Consul of examples/consul. It is a long one, and runs only with
// AGENTLET_CONSUL=in-cluster.
func ConsulInPods() Option { return func(s *settings) { s.inPods, s.long = true, true } }

// Anywhere marks a scenario that needs nothing but the API of a cluster, so that it also runs on the kubeconfig's cluster. Such a
// scenario doesn't stop processes, and calls neither nodes nor pods itself.
func Anywhere() Option { return func(s *settings) { s.anywhere = true } }

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

// Default time limits: of a scenario, and of a long or measuring one.
const (
	scenarioTimeout = 8 * time.Minute
	longTimeout     = 30 * time.Minute
)

// New starts a scenario in a new namespace, which is deleted when the scenario ends.
func New(t *testing.T, options ...Option) *S {
	t.Helper()
	if shared == nil {
		t.Skip("SKIPPED: no cluster")
	}
	set := settings{labels: map[string]string{contract.InjectLabel: contract.InjectEnabled}}
	for _, option := range options {
		option(&set)
	}
	if shared.Current != nil {
		shared.skipUnlessAnywhere(t, set)
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

// Afterwards runs do when the scenario is over, also after a failure, with this time limit. The scenario's own context is
// cancelled by then. The functions run in the reverse order of their registration.
func (s *S) Afterwards(within time.Duration, do func(ctx context.Context)) {
	s.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		do(ctx)
	})
}

// name derives a namespace's name from a test's.
func name(test string) string {
	var suffix [3]byte
	_, _ = rand.Read(suffix[:]) // never fails
	test = strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(strings.TrimPrefix(test, "Test")))
	return strings.Trim(test[:min(len(test), 40)], "-") + "-" + hex.EncodeToString(suffix[:])
}

func (s *S) createNamespace(set settings) error {
	if s.Current != nil {
		set.labels[current.Label] = current.Applications
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace, Labels: set.labels}}
	if _, err := s.Kube.CoreV1().Namespaces().Create(s.Ctx, namespace, metav1.CreateOptions{}); err != nil {
		return err
	}
	// Wait for the service account: until the namespace has its default one, admission rejects pods.
	return s.poll(patience, "the default service account", func(ctx context.Context) (bool, error) {
		_, err := s.Kube.CoreV1().ServiceAccounts(s.Namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// end dumps the state of a failed scenario, and deletes the namespace.
func (s *S) end(ctx context.Context) {
	if s.Failed() {
		s.dump(ctx)
	}
	// Delete the workloads first. A namespace's deletion also deletes the pods' RBAC grants while they drain.
	if _, err := s.Kubectl(ctx, "-n", s.Namespace, "delete", "deployments,statefulsets,jobs,pods", "--all",
		"--timeout=90s"); err != nil {
		s.Errorf("remove workloads: %v", err)
	}
	if _, err := s.Kubectl(ctx, "delete", "namespace", s.Namespace, "--wait=false"); err != nil {
		s.Errorf("remove namespace: %v", err)
	}
}

// dumpedAgentlets limits how many pods' logs a failure prints.
const dumpedAgentlets = 4

// dump logs the namespace's pods and events, and the agentlets' logs.
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

// Given runs a step that sets up the scenario. Given, When and Then log each step with its duration; a failure in a step ends the
// scenario.
func (s *S) Given(what string, do func()) { s.Helper(); s.step("Given", what, do) }

// When runs the step whose effect is tested.
func (s *S) When(what string, do func()) { s.Helper(); s.step("When", what, do) }

// Then runs a step that verifies the effect.
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

// must ends the scenario if err is not nil; doing names the failed action.
func (s *S) must(doing string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", doing, err)
	}
}

// Must ends the scenario if err is not nil.
func (s *S) Must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// Pause waits while something must not happen.
func (s *S) Pause(d time.Duration) {
	s.Helper()
	select {
	case <-s.Ctx.Done():
		s.Fatal(s.Ctx.Err())
	case <-time.After(d):
	}
}

// pollInterval is how often Eventually evaluates its condition.
const pollInterval = 50 * time.Millisecond

// patience is the time limit of Eventually.
const patience = 2 * time.Minute

// Eventually waits up to two minutes for a condition. The failure contains the condition's last error.
func (s *S) Eventually(what string, condition func(ctx context.Context) (bool, error)) {
	s.Helper()
	s.Within(patience, what, condition)
}

// Within is Eventually with another time limit.
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
