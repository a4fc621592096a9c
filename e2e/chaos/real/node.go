package real

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/programs/logind"
)

// ofNode builds a fault from a pair of actions on a process of a node: do begins it, back ends it.
func ofNode(name string, do, back func(context.Context, *World, *cluster.Process) error) begin {
	return func(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
		process := w.Cluster.Nodes[step.Node].Process(name)
		return "", func(ctx context.Context) (string, error) { return "", back(ctx, w, process) }, do(ctx, w, process)
	}
}

// onNode builds a fault from a pair of actions on a node.
func onNode(do, back func(*cluster.Node, context.Context) error) begin {
	return func(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
		node := w.Cluster.Nodes[step.Node]
		return "", func(ctx context.Context) (string, error) { return "", back(node, ctx) }, do(node, ctx)
	}
}

// lostPackets is the share of packets dropped in each direction.
const lostPackets = 0.1

func drop(node *cluster.Node, ctx context.Context) error { //nolint:revive // in the form of a method's expression
	return node.Drop(ctx, lostPackets)
}

func rebooted(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	node := w.Cluster.Nodes[step.Node]
	on := func(ctx context.Context) (string, error) {
		if err := node.PowerOn(ctx); err != nil {
			return "", err
		}
		return "", w.consul.agents[step.Node].Start(ctx) // if it isn't one of the node's own processes
	}
	return fmt.Sprintf("%d pods were Ready there", len(w.readyOn(ctx, step.Node))), on, node.PowerOff(ctx)
}

// Eviction thresholds at which a kubelet reports memory pressure.
var (
	softThreshold = map[string]any{
		"evictionSoft": map[string]string{
			"memory.available": "95%",
		},
		"evictionSoftGracePeriod":          map[string]string{"memory.available": "1s"},
		"evictionMaxPodGracePeriod":        int(chaos.GracePeriod.Seconds()),
		"evictionPressureTransitionPeriod": "1s",
	}
	hardThreshold = map[string]any{
		"evictionHard":                     map[string]string{"memory.available": "95%"},
		"evictionPressureTransitionPeriod": "1s",
	}
)

func pressed(threshold map[string]any) begin {
	return func(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
		node := w.Cluster.Nodes[step.Node]
		back := func(ctx context.Context) (string, error) {
			evicted, _ := w.Kubectl(ctx, "-n", w.Namespace, "get", "pods", "--field-selector=status.phase=Failed", "-o", "name")
			return fmt.Sprintf("evicted: %s", strings.Join(strings.Fields(evicted), " ")), node.ConfigureKubelet(ctx, nil)
		}
		return "", back, node.ConfigureKubelet(ctx, threshold)
	}
}

// shutDown triggers the kubelet's graceful node shutdown through a fake logind. The pods end, but the node stays up.
func shutDown(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	node := w.Cluster.Nodes[step.Node]
	folder, err := os.MkdirTemp(w.Folder, "logind-")
	if err != nil {
		return "", nil, err
	}
	lasting, enough := context.WithCancel(context.WithoutCancel(ctx))
	back := func(ctx context.Context) (string, error) {
		defer enough()
		return "", node.ConfigureKubelet(ctx, nil)
	}
	machine, err := logind.Start(lasting, folder)
	if err != nil {
		return "", back, err
	}
	began := time.Now().Truncate(time.Second) // heartbeats have a resolution of one second
	err = node.ConfigureKubelet(ctx, map[string]any{"shutdownGracePeriod": "60s", "shutdownGracePeriodCriticalPods": "10s"},
		"DBUS_SYSTEM_BUS_ADDRESS="+machine.Address)
	if err != nil {
		return "", back, err
	}
	// The kubelet watches for shutdowns once it has reported its status.
	if err := eventually(ctx, "wait for the kubelet",
		func(ctx context.Context) error { return w.nodeReady(ctx, node, began) }); err != nil {
		return "", back, err
	}
	ready := len(w.readyOn(ctx, step.Node))
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second) // longer than the shutdown's grace period
	defer cancel()
	return fmt.Sprintf("%d pods were Ready there", ready), back, machine.Shutdown(ctx)
}

// nodeReady checks that the node's kubelet has reported Ready since then.
func (w *World) nodeReady(ctx context.Context, node *cluster.Node, since time.Time) error {
	now, err := w.Kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range now.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue &&
			!condition.LastHeartbeatTime.Time.Before(since) {
			return nil
		}
	}
	return fmt.Errorf("%s is not Ready: %+v", node.Name, now.Status.Conditions)
}
