package scenarios_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/figures"
	"github.com/agentlet/agentlet/e2e/scenario"
)

const (
	// admissionRate is how many pods are created each second while something happens to the webhook.
	admissionRate = 15
	// admissionLead is how long before and after.
	admissionLead = 2 * time.Second
)

// admissions are what came of the pods that were created, in dry runs, while something happened to the webhook. A dry run is
// admitted as any creation is, and nobody tries it again.
type admissions struct {
	mu         sync.Mutex
	created    int
	uninjected int
	failed     map[string]int // attempts, by what the error says
	lost       int            // creations that failed for good
	last       time.Time      // when the last attempt that failed was made
	slowest    time.Duration  // attempt
	longest    time.Duration  // from the first attempt of a creation to its success
}

// attemptPause is how long a creation that failed waits before the next attempt. A ReplicaSet's controller begins with less,
// and ends with more.
const attemptPause = time.Second

// admitWhile creates pods at a steady rate, whether earlier ones are answered or not, from a while before do to a while after
// it, and waits for all answers. A creation that fails is tried again for as long as patience says.
func admitWhile(s *scenario.S, patience time.Duration, do func()) *admissions {
	s.Helper()
	a := &admissions{failed: map[string]int{}}
	var group sync.WaitGroup
	enough := make(chan struct{})
	group.Go(func() {
		ticker := time.NewTicker(time.Second / admissionRate)
		defer ticker.Stop()
		for {
			select {
			case <-enough:
				return
			case <-s.Ctx.Done():
				return
			case <-ticker.C:
				group.Go(func() { a.create(s, patience) })
			}
		}
	})
	// do may end the scenario.
	defer group.Wait()
	defer close(enough)
	s.Pause(admissionLead)
	do()
	s.Pause(admissionLead)
	return a
}

// create counts one creation.
func (a *admissions) create(s *scenario.S, patience time.Duration) {
	began := time.Now()
	for {
		again := a.attempt(s, began, patience)
		if !again {
			return
		}
		select {
		case <-s.Ctx.Done():
			return
		case <-time.After(attemptPause):
		}
	}
}

// attempt counts one attempt of a creation, and says whether there is to be another.
func (a *admissions) attempt(s *scenario.S, began time.Time, patience time.Duration) (again bool) {
	template := s.Sample(s.Annotations())
	template.GenerateName = "admitted-"
	asked := time.Now()
	pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.slowest = max(a.slowest, time.Since(asked))
	if err != nil {
		a.failed[err.Error()]++
		if asked.After(a.last) {
			a.last = asked
		}
		if time.Since(began) < patience {
			return true
		}
		a.lost++
	} else {
		a.longest = max(a.longest, time.Since(began))
		if !scenario.Injected(pod) {
			a.uninjected++
		}
	}
	a.created++
	return false
}

// failures is how many attempts failed.
func (a *admissions) failures() (n int) {
	for _, count := range a.failed {
		n += count
	}
	return n
}

// only fails the scenario where an attempt failed with an error that says none of these.
func (a *admissions) only(s *scenario.S, reasons ...string) {
	s.Helper()
	for message := range a.failed {
		if !slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(message, reason) }) {
			s.Errorf("failed: %s", message)
		}
	}
}

// String tells it for the log.
func (a *admissions) String() string {
	text := fmt.Sprintf("%d creations, %d attempts failed, %d creations lost, %d not injected; the slowest attempt took %s, the slowest creation %s",
		a.created, a.failures(), a.lost, a.uninjected, a.slowest.Round(time.Millisecond), a.longest.Round(time.Millisecond))
	for _, message := range slices.Sorted(maps.Keys(a.failed)) {
		text += fmt.Sprintf("\n%6d %s", a.failed[message], message)
	}
	return text
}

// judge writes the figures of a fault, and fails the scenario where a creation was lost or a pod was not injected.
func (a *admissions) judge(s *scenario.S, fault string) {
	s.Helper()
	s.Logf("%s: %s", fault, a)
	s.Must(figures.Merge(s.FiguresFile(), map[string]float64{
		"ha_created_" + fault: float64(a.created), "ha_failed_" + fault: float64(a.failures()),
		"ha_lost_" + fault: float64(a.lost), "ha_uninjected_" + fault: float64(a.uninjected),
		"ha_longest_ms_" + fault: float64(a.longest.Milliseconds()),
	}))
	if a.uninjected > 0 {
		s.Errorf("%d of %d pods were admitted without an agentlet", a.uninjected, a.created)
	}
	if a.lost > 0 {
		s.Errorf("%d of %d creations were lost", a.lost, a.created)
	}
}

// webhookSelector selects the webhook's pods.
const webhookSelector = "app.kubernetes.io/component=webhook"

// webhooks are the webhook's pods that are not being deleted.
func webhooks(ctx context.Context, s *scenario.S) ([]corev1.Pod, error) {
	pods, err := s.Kube.CoreV1().Pods(scenario.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: webhookSelector})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }), nil
}

// awaitWebhooks waits until the webhook has two replicas, both ready and trusted, and returns them.
func awaitWebhooks(s *scenario.S) (pods []corev1.Pod) {
	s.Helper()
	s.Eventually("two replicas of the webhook", func(ctx context.Context) (bool, error) {
		var err error
		if pods, err = webhooks(ctx, s); err != nil {
			return false, err
		}
		ready := 0
		for i := range pods {
			if scenario.IsReady(&pods[i]) {
				ready++
			}
		}
		return len(pods) == 2 && ready == 2, fmt.Errorf("%d ready of %d", ready, len(pods))
	})
	return pods
}

// installed sees to it that the webhook is as it was installed after the scenario, whatever happened in it.
func installed(s *scenario.S) {
	s.Helper()
	awaitWebhooks(s)
	s.Afterwards(4*time.Minute, func(ctx context.Context) {
		if !s.Failed() {
			if _, err := s.Kubectl(ctx, "-n", scenario.SystemNamespace, "rollout", "status", "deployment", "--timeout=2m"); err == nil {
				return
			}
		}
		if _, err := s.Kubectl(ctx, "-n", scenario.SystemNamespace, "delete", "secret", caSecret, "--ignore-not-found"); err != nil {
			s.Error(err)
		}
		if err := s.Install(ctx, "replicas=2"); err != nil {
			s.Error(err)
		}
	})
}

func TestHAReplicaDeletedByForce(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	var during *admissions
	s.When("a replica of the webhook is deleted by force", func() {
		victim := awaitWebhooks(s)[0]
		during = admitWhile(s, 0, func() {
			none := int64(0)
			s.Must(s.Kube.CoreV1().Pods(victim.Namespace).Delete(s.Ctx, victim.Name, metav1.DeleteOptions{GracePeriodSeconds: &none}))
			s.Eventually("another replica", func(ctx context.Context) (bool, error) {
				pods, err := webhooks(ctx, s)
				return err == nil && !slices.ContainsFunc(pods, func(pod corev1.Pod) bool { return pod.UID == victim.UID }), err
			})
			awaitWebhooks(s)
		})
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "force") })
}

// A process that is gone at once takes with it what it was asked and had not answered, and until the kubelet has seen its end,
// and the endpoints have followed, the API server may call its address: the answer is a refusal, after which the API server
// tries no other replica. So attempts fail for about a second; the caller's next one comes through, and every controller
// makes it.
func TestHAReplicaKilled(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	var during *admissions
	var killed time.Time
	s.When("a replica's process is killed", func() {
		victim := awaitWebhooks(s)[0]
		during = admitWhile(s, 10*time.Second, func() {
			killed = time.Now()
			// The pod's name is its host name, which is in the environment.
			s.Must(scenario.Kill("/agentlet-webhook", victim.Name))
			s.Eventually("its restart", func(ctx context.Context) (bool, error) {
				pod, err := s.Kube.CoreV1().Pods(victim.Namespace).Get(ctx, victim.Name, metav1.GetOptions{})
				return err == nil && pod.Status.ContainerStatuses[0].RestartCount > victim.Status.ContainerStatuses[0].RestartCount, err
			})
			awaitWebhooks(s)
		})
	})
	s.Then("every creation comes through in the end, with its agentlet", func() {
		during.judge(s, "kill")
		during.only(s, "connection refused", "EOF", "connection reset")
		if n := during.failures(); n > 0 {
			s.Logf("the last attempt that failed was made %s after the kill", during.last.Sub(killed).Round(time.Millisecond))
			// Half of the attempts in two seconds, if each met a new connection.
			if n > admissionRate || during.last.Sub(killed) > 3*time.Second {
				s.Errorf("%d attempts failed", n)
			}
		}
	})
}

func TestHAUpgrade(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	var during *admissions
	s.When("the chart is upgraded, and with it each replica replaced", func() {
		during = admitWhile(s, 0, func() {
			s.Must(s.Install(s.Ctx))
			s.Eventually("the end of the old replicas", func(ctx context.Context) (bool, error) {
				pods, err := s.Kube.CoreV1().Pods(scenario.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: webhookSelector})
				return err == nil && len(pods.Items) == 2, err
			})
		})
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "upgrade") })
}

func TestHALeafRotation(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	before := servedBy(s, awaitWebhooks(s))
	var during *admissions
	s.When("each replica signs itself another certificate", func() {
		during = admitWhile(s, 0, func() {
			// The same authority in other bytes: that is signed with anew, as at two thirds of a certificate's life.
			secret, err := s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Get(s.Ctx, caSecret, metav1.GetOptions{})
			s.Must(err)
			for _, key := range []string{corev1.TLSCertKey, "ca.crt"} {
				secret.Data[key] = append(secret.Data[key], '\n')
			}
			_, err = s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Update(s.Ctx, secret, metav1.UpdateOptions{})
			s.Must(err)
			awaitRenewed(s, before)
		})
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "leaf") })
}

func TestHAAuthorityRotation(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	before := servedBy(s, awaitWebhooks(s))
	var during *admissions
	s.When("the authority's secret is deleted", func() {
		during = admitWhile(s, 0, func() {
			began := time.Now()
			s.Must(s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Delete(s.Ctx, caSecret, metav1.DeleteOptions{}))
			awaitRenewed(s, before)
			s.Logf("both replicas served certificates of the new authority after %s", time.Since(began).Round(time.Millisecond))
		})
	})
	s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, "authority") })
}

// apart waits until the webhook's two replicas run on two nodes, and returns them.
func apart(s *scenario.S) []corev1.Pod {
	s.Helper()
	for range 5 {
		pods := awaitWebhooks(s)
		if pods[0].Spec.NodeName != pods[1].Spec.NodeName {
			return pods
		}
		s.Must(s.Kube.CoreV1().Pods(pods[0].Namespace).Delete(s.Ctx, pods[0].Name, metav1.DeleteOptions{}))
		s.Pause(time.Second)
	}
	s.Fatal("both replicas run on one node")
	return nil
}

// A replica whose node is cut off neither answers nor refuses. Until the node is declared lost, which takes the control plane
// 40 to 50 seconds, and with it the endpoint goes, the API server goes on spreading its calls over both replicas: each that
// goes to the lost one hangs until webhook.timeoutSeconds is over, and no other replica is tried. So about half of the attempts
// fail, and nothing that the webhook does can help it; what can be had is that a controller's next attempts come through, and
// that no pod slips through without an agentlet.
func TestHANodeCutOff(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	whole(s)
	var during *admissions
	var cut time.Time
	var noticed time.Duration
	s.When("the node of a replica is cut off", func() {
		victim := apart(s)[1]
		node := s.Cluster.Node(victim.Spec.NodeName)
		during = admitWhile(s, time.Minute, func() {
			cut = time.Now()
			s.Must(node.Cut(s.Ctx))
			s.Eventually("the replica to be known as lost", func(ctx context.Context) (bool, error) {
				pod, err := s.Kube.CoreV1().Pods(victim.Namespace).Get(ctx, victim.Name, metav1.GetOptions{})
				return err == nil && !scenario.IsReady(pod), err
			})
			noticed = time.Since(cut)
			s.Pause(10 * time.Second)
		})
		s.Must(node.Heal(s.Ctx))
	})
	s.Then("every creation comes through in the end, with its agentlet", func() {
		s.Logf("the replica was taken out %s after the cut; the last attempt that failed was made %s after it",
			noticed.Round(time.Millisecond), during.last.Sub(cut).Round(time.Millisecond))
		during.judge(s, "cut")
		during.only(s, "context deadline exceeded", "Client.Timeout", "i/o timeout", "no route to host")
		if during.last.Sub(cut) > noticed+5*time.Second {
			s.Errorf("attempts failed until %s after the cut", during.last.Sub(cut))
		}
	})
	s.Then("the node comes back, and so does the replica", func() {
		s.Must(s.Cluster.Restore(s.Ctx))
		awaitWebhooks(s)
		awaitConverged(s)
	})
}
