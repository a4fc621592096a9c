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

	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

const (
	// admissionRate is how many pods are created per second during a fault of the webhook.
	admissionRate = 15
	// admissionLead is how long pods are also created before and after it.
	admissionLead = 2 * time.Second
)

// admissions counts the results of pods that were created, in dry runs, during a fault of the webhook. A dry run is admitted like
// any creation, but no controller retries it.
type admissions struct {
	mu         sync.Mutex
	created    int
	uninjected int
	failed     map[string]int // attempts, by the text of the error
	lost       int            // creations that failed after all retries
	last       time.Time      // time of the last failed attempt
	slowest    time.Duration  // longest attempt
	longest    time.Duration  // longest time from a creation's first attempt to its success
}

// attemptPause is the time before a failed creation is retried. A ReplicaSet's controller starts with less, and ends with more.
const attemptPause = time.Second

// admitWhile creates pods at a steady rate, whether or not earlier ones are answered, from admissionLead before do until
// admissionLead after it, and waits for all answers. A failed creation is retried until patience is over.
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
	// Wait in a defer, because do may end the scenario.
	defer group.Wait()
	defer close(enough)
	s.Pause(admissionLead)
	do()
	s.Pause(admissionLead)
	return a
}

// create executes one creation, with its retries.
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

// attempt executes one attempt of a creation, and reports whether to retry.
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

// failures returns the number of failed attempts.
func (a *admissions) failures() (n int) {
	for _, count := range a.failed {
		n += count
	}
	return n
}

// only fails the scenario if an attempt failed with an error that contains none of these texts.
func (a *admissions) only(s *scenario.S, reasons ...string) {
	s.Helper()
	for message := range a.failed {
		if !slices.ContainsFunc(reasons, func(reason string) bool { return strings.Contains(message, reason) }) {
			s.Errorf("failed: %s", message)
		}
	}
}

// String formats the results for the log.
func (a *admissions) String() string {
	text := fmt.Sprintf("%d creations, %d attempts failed, %d creations lost, %d not injected; the slowest attempt took %s, the slowest creation %s",
		a.created, a.failures(), a.lost, a.uninjected, a.slowest.Round(time.Millisecond), a.longest.Round(time.Millisecond))
	for _, message := range slices.Sorted(maps.Keys(a.failed)) {
		text += fmt.Sprintf("\n%6d %s", a.failed[message], message)
	}
	return text
}

// judge writes the figures of a fault. It fails the scenario if a creation was lost or a pod was not injected.
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

// webhooks returns the webhook's pods that are not being deleted.
func webhooks(ctx context.Context, s *scenario.S) ([]corev1.Pod, error) {
	pods, err := s.Kube.CoreV1().Pods(scenario.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: webhookSelector})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil }), nil
}

// awaitWebhooks waits until the webhook has exactly two replicas, both ready and trusted, and returns them.
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

// installed restores the webhook's original installation after the scenario, whatever happened in it.
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

// TestHAReplicaKilled kills a replica's process. The requests in flight are lost. Until the kubelet has noticed, and the
// endpoints are updated, the API server may still call the address; the connection is refused, and the API server tries no other
// replica. So attempts fail for about a second. The caller's next attempt succeeds, and every controller retries.
func TestHAReplicaKilled(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	installed(s)
	var during *admissions
	var killed time.Time
	s.When("a replica's process is killed", func() {
		victim := awaitWebhooks(s)[0]
		during = admitWhile(s, 10*time.Second, func() {
			killed = time.Now()
			// The pod's name is its host name, which is in the process's environment.
			s.Must(scenario.Kill("/agentlet-webhook", victim.Name))
			s.Eventually("its restart", func(ctx context.Context) (bool, error) {
				pod, err := s.Kube.CoreV1().Pods(victim.Namespace).Get(ctx, victim.Name, metav1.GetOptions{})
				return err == nil && pod.Status.ContainerStatuses[0].RestartCount > victim.Status.ContainerStatuses[0].RestartCount, err
			})
			awaitWebhooks(s)
		})
	})
	s.Then("every creation succeeds in the end, with its agentlet", func() {
		during.judge(s, "kill")
		during.only(s, "connection refused", "EOF", "connection reset")
		if n := during.failures(); n > 0 {
			s.Logf("the last attempt that failed was made %s after the kill", during.last.Sub(killed).Round(time.Millisecond))
			// Half of the attempts in two seconds may fail if each needs a new connection.
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
	s.When("each replica renews its certificate", func() {
		during = admitWhile(s, 0, func() {
			// Write the same CA in other bytes. The replicas then sign new certificates, as at two thirds of a certificate's
			// life.
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
	s.When("the CA's Secret is deleted", func() {
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

// TestHANodeCutOff cuts off the node of a replica, which then neither answers nor refuses. The control plane takes 40 to 50
// seconds to declare the node lost and to remove the endpoint. Until then the API server calls both replicas in turn: a call of
// the lost one hangs until webhook.timeoutSeconds, and no other replica is tried. So about half of the attempts fail, and the
// webhook can't prevent that. The test checks that a controller's retries succeed, and that no pod is created without an
// agentlet.
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
	s.Then("every creation succeeds in the end, with its agentlet", func() {
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
