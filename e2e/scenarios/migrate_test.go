package scenarios_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

const (
	migrateReplicas = 4
	// migrateFloor is the number of replicas minus the Deployment's maxUnavailable.
	migrateFloor = migrateReplicas - 1
	migrateRate  = 100
)

// TestMigrateFromKatalogSync follows docs/migrate.md. It enables the dialect, rolls out a Deployment with katalog-sync's
// annotations and gate, ends the old registrar, and finally rewrites the template with Agentlet's annotations.
func TestMigrateFromKatalogSync(t *testing.T) {
	s := scenario.New(t, scenario.Label(contract.InjectLabel, ""))
	old := newOldRegistrar(s)
	client := load.New(s.Consul, s.Service())
	var end, stop func()
	var floor *floor
	s.Given("a Deployment that the old registrar has in Consul, under load", func() {
		end = old.start()
		oldDeployment(s)
		s.Rollout()
		s.AwaitCatalog(s.Service(), migrateReplicas)
		s.Must(client.Follow(s.Ctx))
		floor = watchFloor(s)
		stop = underLoad(s, client)
	})
	s.When("the dialect is enabled and the namespace opts in", func() {
		reinstalled(s)
		s.Must(s.Install(s.Ctx, "dialects={katalog-sync}"))
		_, err := s.Kubectl(s.Ctx, "label", "namespace", s.Namespace, contract.InjectLabel+"="+contract.InjectEnabled)
		s.Must(err)
	})
	s.Then("nothing happens to the running pods", func() {
		for _, pod := range s.Pods(s.Ctx) {
			if scenario.Injected(&pod) || !scenario.IsReady(&pod) {
				s.Errorf("%s is injected: %v, Ready: %v", pod.Name, scenario.Injected(&pod), scenario.IsReady(&pod))
			}
		}
	})
	s.When("the Deployment is restarted", func() { s.Restart(); rolledOut(s) })
	s.Then("both registrars have each pod, and both gates are open", func() {
		s.Eventually("both entries of each pod", func(context.Context) (bool, error) {
			n := len(s.Passing(s.Service()))
			return n == 2*migrateReplicas, fmt.Errorf("%d passing", n)
		})
		bothOpen(s)
	})
	s.When("the old registrar ends", func() { end() })
	s.Then("its entries stop passing, and can be deregistered", func() {
		s.Eventually("their TTL to end", func(context.Context) (bool, error) {
			n := len(s.Passing(s.Service()))
			return n == migrateReplicas, fmt.Errorf("%d passing", n)
		})
		for _, agent := range old.agents {
			for _, id := range old.entries(agent) {
				s.Must(agent.Agent().ServiceDeregister(id))
			}
		}
		s.AwaitCatalog(s.Service(), migrateReplicas)
	})
	s.When("the Deployment is restarted with only the agentlets there", func() { s.Restart(); rolledOut(s) })
	s.Then("both gates open nevertheless", func() { bothOpen(s) })
	s.When("the template is rewritten with Agentlet's annotations", func() { ownWords(s); rolledOut(s) })
	s.Then("no request has failed, there were always enough instances, and no stale entry is left", func() {
		s.AwaitCatalog(s.Service(), migrateReplicas)
		stop()
		requests, failed := client.Counts()
		lowest := floor.end()
		s.Must(figures.Merge(s.FiguresFile(), map[string]float64{
			"migrate_requests": float64(requests), "migrate_failed_requests": float64(failed), "migrate_lowest_passing": float64(lowest),
		}))
		s.Logf("%d requests, %d failed; at the lowest %d of %d pods were passing", requests, failed, lowest, migrateReplicas)
		if err := client.Check(); err != nil {
			s.Error(err)
		}
		if lowest < migrateFloor {
			s.Errorf("at the lowest %d pods were passing, want %d", lowest, migrateFloor)
		}
		for _, entry := range s.Catalog(s.Service()) {
			if !strings.HasPrefix(entry.Service.ID, "agentlet_"+s.Namespace+"_") {
				s.Errorf("a ghost: %s", entry.Service.ID)
			}
		}
	})
}

// oldDeployment is a typical Deployment for katalog-sync: with its annotations and its gate, and with a preStop hook that sleeps
// until the next poll has removed the pod from Consul.
func oldDeployment(s *scenario.S) {
	s.Helper()
	template := s.Sample(map[string]string{
		oldPrefix + "service-names":     s.Service(),
		oldPrefix + "service-port":      "8080",
		oldPrefix + "sync-interval":     "1s",
		oldPrefix + "service-check-ttl": oldTTL.String(),
	})
	template.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: oldGate}}
	template.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
	s.Deployment(migrateReplicas, template)
	patch(s, `{"spec":{"strategy":{"rollingUpdate":{"maxUnavailable":1,"maxSurge":2}}}}`)
}

// ownWords rewrites the template with Agentlet's annotations, as for a Deployment that never used katalog-sync.
func ownWords(s *scenario.S) {
	s.Helper()
	patch(s, fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{
		"%[1]sservice-names":null,"%[1]sservice-port":null,"%[1]ssync-interval":null,"%[1]sservice-check-ttl":null,"%[2]s":%[3]q}},
		"spec":{"readinessGates":null,"containers":[{"name":"app","lifecycle":null}]}}}}`, oldPrefix, contract.ServiceNames, s.Service()))
}

// rolledOut waits until the new pods are Ready and the old ones gone.
func rolledOut(s *scenario.S) {
	s.Helper()
	s.Rollout()
	s.Eventually("the former pods to be gone", func(ctx context.Context) (bool, error) {
		n := len(s.Pods(ctx))
		return n == migrateReplicas, fmt.Errorf("%d pods", n)
	})
}

func patch(s *scenario.S, text string) {
	s.Helper()
	_, err := s.Kube.AppsV1().Deployments(s.Namespace).Patch(s.Ctx, "sample", types.StrategicMergePatchType, []byte(text), metav1.PatchOptions{})
	s.Must(err)
}

// bothOpen checks that every pod has an agentlet, the translated annotations, and two open gates.
func bothOpen(s *scenario.S) {
	s.Helper()
	for _, pod := range s.Pods(s.Ctx) {
		ours, theirs := scenario.Condition(&pod, contract.Condition), scenario.Condition(&pod, oldGate)
		if !scenario.Injected(&pod) || ours.Status != corev1.ConditionTrue || theirs.Status != corev1.ConditionTrue {
			s.Errorf("%s: injected %v, gates %+v and %+v", pod.Name, scenario.Injected(&pod), ours, theirs)
		}
		if got := pod.Annotations[contract.HeartbeatTTL]; got != oldTTL.String() {
			s.Errorf("%s: %s is %q", pod.Name, contract.HeartbeatTTL, got)
		}
	}
}

// underLoad sends requests until stop is called.
func underLoad(s *scenario.S, client *load.Client) (stop func()) {
	loading, enough := context.WithCancel(s.Ctx)
	done := make(chan struct{})
	go func() { defer close(done); client.Run(loading, migrateRate) }()
	stop = sync.OnceFunc(func() { enough(); <-done })
	s.Cleanup(stop)
	return stop
}

// floor is the lowest number of pods that Consul has shown as passing.
type floor struct {
	cancel context.CancelFunc
	done   chan struct{}
	lowest int
}

// watchFloor watches the service from now on. A pod counts once, even if both registrars have registered it.
func watchFloor(s *scenario.S) *floor {
	ctx, cancel := context.WithCancel(s.Ctx)
	f := &floor{cancel: cancel, done: make(chan struct{}), lowest: migrateReplicas}
	go func() {
		defer close(f.done)
		for index := uint64(0); ctx.Err() == nil; {
			entries, meta, err := s.Consul.Health().Service(s.Service(), "", true, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
			if err != nil {
				if ctx.Err() == nil {
					s.Errorf("follow the service: %v", err)
				}
				return
			}
			pods := map[string]bool{}
			for _, entry := range entries {
				pods[entry.Service.Address] = true
			}
			index, f.lowest = meta.LastIndex, min(f.lowest, len(pods))
		}
	}()
	return f
}

// end ends the watch, and returns the lowest number.
func (f *floor) end() int {
	f.cancel()
	<-f.done
	return f.lowest
}
