// Package scale runs many registrars in one process against a real API server and real Consul agents. Their pods are on simulated
// nodes: each has its own Consul client agent, and a Node object with a lease; the package acts as the kubelet of its pods. So
// the measured figures depend on the number of pods only, not on their load.
package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// PodsPerNode is the maximum number of pods on a simulated node. It is the same at every size: a bigger cluster has more nodes,
// not fuller ones.
const PodsPerNode = 200

const (
	leaseSeconds   = 40
	leaseNamespace = "kube-node-lease"
	simulated      = "agentlet.test/simulated"
	nodeStart      = 30 * time.Second
	agentHTTP      = "8500"
	// maxAgentClients is an agent's limit of connections per client address. Here all pods of a node have the same address; in a
	// real cluster each has its own, with Consul's default of 200. The limit must not exceed the process's limit of open files.
	maxAgentClients = 40 * PodsPerNode
)

// node is a simulated node.
type node struct {
	name, ip string
	agent    *exec.Cmd
	ended    chan struct{}
	pods     int
}

func (n *node) consulAddress() string { return net.JoinHostPort(n.ip, agentHTTP) }

// addNode starts the agent of another node, and registers the node with the API server.
func (f *Fleet) addNode(ctx context.Context) error {
	number := len(f.nodes) + 1
	n := &node{name: fmt.Sprintf("simulated-%03d", number), ip: fmt.Sprintf("10.99.1.%d", number), ended: make(chan struct{})}
	if err := address(ctx, "add", n.ip, f.Bridge); err != nil {
		return err
	}
	f.nodes = append(f.nodes, n)
	if err := f.startAgent(n); err != nil {
		return err
	}
	if err := awaitAgent(ctx, n); err != nil {
		return err
	}
	return f.announce(ctx, n)
}

// address adds an address to the host's end of the cluster's network, or deletes it.
func address(ctx context.Context, verb, ip, bridge string) error {
	out, err := exec.CommandContext(ctx, "ip", "address", verb, ip+"/32", "dev", bridge).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip address %s %s: %w: %s", verb, ip, err, out)
	}
	return nil
}

func (f *Fleet) startAgent(n *node) error {
	dir := filepath.Join(f.Dir, n.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make folder of %s: %w", n.name, err)
	}
	config, err := json.Marshal(map[string]any{
		"node_name": n.name, "data_dir": filepath.Join(dir, "data"), "bind_addr": n.ip, "client_addr": n.ip,
		"retry_join": []string{f.ServerIP}, "retry_interval": "1s", "disable_update_check": true, "leave_on_terminate": false,
		"limits": map[string]any{"http_max_conns_per_client": maxAgentClients},
		"ports":  map[string]any{"dns": -1, "grpc": -1},
	})
	if err != nil {
		return fmt.Errorf("encode configuration of %s: %w", n.name, err)
	}
	file := filepath.Join(dir, "consul.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return fmt.Errorf("write configuration of %s: %w", n.name, err)
	}
	log, err := os.Create(filepath.Join(dir, "consul.log"))
	if err != nil {
		return fmt.Errorf("create log of %s: %w", n.name, err)
	}
	defer func() { _ = log.Close() }()
	n.agent = exec.Command(f.Consul, "agent", "-config-file="+file) //nolint:noctx // Close ends it
	n.agent.Stdout, n.agent.Stderr = log, log
	n.agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.agent.Start(); err != nil {
		return fmt.Errorf("start agent of %s: %w", n.name, err)
	}
	go func() { defer close(n.ended); _ = n.agent.Wait() }()
	return nil
}

func awaitAgent(ctx context.Context, n *node) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, nodeStart, true, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.consulAddress()+"/v1/catalog/node/"+n.name, nil)
		if err != nil {
			return false, err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, nil // it has not started yet
		}
		defer response.Body.Close()
		var known struct{ Node *struct{ Address string } }
		return json.NewDecoder(response.Body).Decode(&known) == nil && known.Node != nil, nil
	})
	if err != nil {
		return fmt.Errorf("wait for the catalog to know %s: %w", n.name, err)
	}
	return nil
}

// announce creates the Node and its lease. The node is unschedulable, so that no other pods run there.
func (f *Fleet) announce(ctx context.Context, n *node) error {
	labels := map[string]string{simulated: "true"}
	object, err := f.Kube.CoreV1().Nodes().Create(ctx, &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: labels},
		Spec:       corev1.NodeSpec{Unschedulable: true},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create node %s: %w", n.name, err)
	}
	object.ResourceVersion = "" // overwrite what controllers have changed meanwhile
	now := metav1.Now()
	object.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.ip}}
	object.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Simulated", LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	if _, err := f.Kube.CoreV1().Nodes().UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update status of node %s: %w", n.name, err)
	}
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Namespace: leaseNamespace, Labels: labels},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &n.name, LeaseDurationSeconds: new(int32(leaseSeconds)), RenewTime: new(metav1.NowMicro()),
		},
	}
	if _, err := f.Kube.CoordinationV1().Leases(leaseNamespace).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create lease of node %s: %w", n.name, err)
	}
	return nil
}

// renew renews the nodes' leases until ctx ends.
func (f *Fleet) renew(ctx context.Context) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		f.mu.Lock()
		nodes := append([]*node(nil), f.nodes...)
		f.mu.Unlock()
		for _, n := range nodes {
			leases := f.Kube.CoordinationV1().Leases(leaseNamespace)
			lease, err := leases.Get(ctx, n.name, metav1.GetOptions{})
			if err != nil {
				continue // it is just being created, or the next round renews it
			}
			lease.Spec.RenewTime = new(metav1.NowMicro())
			_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{})
		}
	}, leaseSeconds/4*time.Second)
}

// removeNode ends the agent, and removes everything that addNode has created.
func (f *Fleet) removeNode(ctx context.Context, n *node) error {
	var errs []error
	if n.agent != nil && n.agent.Process != nil {
		errs = append(errs, n.agent.Process.Kill())
		<-n.ended
	}
	errs = append(errs,
		f.Kube.CoreV1().Nodes().Delete(ctx, n.name, metav1.DeleteOptions{}),
		f.Kube.CoordinationV1().Leases(leaseNamespace).Delete(ctx, n.name, metav1.DeleteOptions{}),
		address(ctx, "del", n.ip, f.Bridge),
	)
	return errors.Join(errs...)
}
