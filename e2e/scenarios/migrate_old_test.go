package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
)

const (
	oldPrefix = "katalog-sync.wish.com/"
	oldGate   = corev1.PodConditionType(oldPrefix + "synced")
	oldSource = "external-sync-source"
	// oldPoll is the old registrar's polling interval, oldTTL the TTL of its checks.
	oldPoll = 500 * time.Millisecond
	oldTTL  = 5 * time.Second
)

// oldRegistrar imitates katalog-sync for a scenario's namespace. It polls, registers pods with a TTL check at their node's agent
// under its own IDs, and writes its own gate. When it ends, it leaves everything behind.
type oldRegistrar struct {
	*scenario.S
	agents map[string]*api.Client // by node
}

func newOldRegistrar(s *scenario.S) *oldRegistrar {
	old := &oldRegistrar{s, map[string]*api.Client{}}
	for _, node := range s.Cluster.Nodes {
		client, err := cluster.ConsulClient(node.ConsulAddr())
		s.Must(err)
		old.agents[node.Name] = client
	}
	return old
}

// start runs the registrar; end stops it and waits until it has ended.
func (o *oldRegistrar) start() (end func()) {
	ctx, cancel := context.WithCancel(o.Ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(oldPoll)
		defer ticker.Stop()
		for {
			if err := o.sync(ctx); err != nil && ctx.Err() == nil {
				o.Logf("old registrar: %v", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

func (o *oldRegistrar) sync(ctx context.Context) error {
	pods, err := o.Kube.CoreV1().Pods(o.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	there := map[string]bool{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		if pod.Annotations[oldPrefix+"service-names"] == "" || pod.Status.Phase != corev1.PodRunning || pod.Status.PodIP == "" {
			continue
		}
		there[o.id(pod.Name)] = true
		errs = append(errs, o.register(ctx, pod))
	}
	for _, agent := range o.agents {
		for _, id := range o.entries(agent) {
			if !there[id] {
				errs = append(errs, agent.Agent().ServiceDeregister(id))
			}
		}
	}
	return errors.Join(errs...)
}

func (o *oldRegistrar) id(pod string) string {
	return strings.Join([]string{"katalog-sync", o.Service(), o.Namespace, pod}, "_")
}

// entries returns the IDs under which the old registrar has registered the service at an agent.
func (o *oldRegistrar) entries(agent *api.Client) (ids []string) {
	services, err := agent.Agent().ServicesWithFilterOpts(
		fmt.Sprintf("Service == %q and Meta[%q] == \"katalog-sync\"", o.Service(), oldSource), (&api.QueryOptions{}).WithContext(o.Ctx))
	if err != nil {
		return nil
	}
	for id := range services {
		ids = append(ids, id)
	}
	return ids
}

func (o *oldRegistrar) register(ctx context.Context, pod *corev1.Pod) error {
	agent, id := o.agents[pod.Spec.NodeName], o.id(pod.Name)
	health := api.HealthPassing
	if pod.DeletionTimestamp != nil || slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return !c.Ready }) {
		health = api.HealthCritical
	}
	if !slices.Contains(o.entries(agent), id) {
		err := agent.Agent().ServiceRegisterOpts(&api.AgentServiceRegistration{
			ID: id, Name: o.Service(), Address: pod.Status.PodIP, Port: 8080,
			Meta:  map[string]string{oldSource: "katalog-sync"},
			Check: &api.AgentServiceCheck{CheckID: id, TTL: oldTTL.String(), Status: health},
		}, api.ServiceRegisterOpts{}.WithContext(ctx))
		if err != nil {
			return err
		}
	}
	if err := agent.Agent().UpdateTTLOpts(id, "", health, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return err
	}
	if health == api.HealthPassing && gatedBy(pod, oldGate) && scenario.Condition(pod, oldGate).Status != corev1.ConditionTrue {
		return o.open(ctx, pod)
	}
	return nil
}

// open opens the old registrar's gate.
func (o *oldRegistrar) open(ctx context.Context, pod *corev1.Pod) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{
		map[string]any{"type": oldGate, "status": "True", "reason": "Done", "message": "Done"},
	}}})
	if err != nil {
		return err
	}
	_, err = o.Kube.CoreV1().Pods(o.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

func gatedBy(pod *corev1.Pod, gate corev1.PodConditionType) bool {
	return slices.ContainsFunc(pod.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == gate })
}
