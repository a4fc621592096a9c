package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/kube"
	"github.com/agentlet/agentlet/agentlet/probe"
)

// Config configures a fleet. All fields but Annotations are required.
type Config struct {
	Kube kubernetes.Interface
	// REST is the configuration from which each registrar makes its own connection.
	REST *rest.Config
	// Namespace is the pods' namespace. It has not opted in, because no kubelet would run the injected containers.
	Namespace string
	// Consul is the path of the program. ServerIP is the server that agents join. Bridge is the network device to which the
	// nodes' addresses are added.
	Consul, ServerIP, Bridge string
	// Dir is the folder for the agents' data and logs.
	Dir string
	// Annotations are added to all pods, beside the service's name and a drain delay of 0.
	Annotations map[string]string
}

// Label is the label of all pods of a fleet.
const Label = "app=scale"

// services is the number of services over which the pods are spread.
const services = 50

// Fleet is a growing number of pods with their registrars. It is not safe for concurrent use.
type Fleet struct {
	Config
	nodes []*node
	pods  []*pod
	made  int
	// transport is that of the newest registrar.
	transport http.RoundTripper

	mu      sync.Mutex // guards nodes, for renew
	running sync.WaitGroup
	stop    context.CancelFunc
	ctx     context.Context //nolint:containedctx // the registrars' life is the fleet's
}

// New returns an empty fleet. Close ends it.
func New(ctx context.Context, config Config) *Fleet {
	f := &Fleet{Config: config}
	f.ctx, f.stop = context.WithCancel(ctx)
	f.running.Go(func() { f.renew(f.ctx) })
	return f
}

// Size returns the number of pods.
func (f *Fleet) Size() int { return len(f.pods) }

// Grow adds pods, perSecond per second, until there are size.
func (f *Fleet) Grow(ctx context.Context, size, perSecond int) error {
	for len(f.nodes)*PodsPerNode < size {
		f.mu.Lock()
		err := f.addNode(ctx)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return f.pace(ctx, size-len(f.pods), perSecond, func(ctx context.Context) error { return f.add(ctx, f.roomiest()) })
}

// Roll replaces that many pods, the oldest first, perSecond per second.
func (f *Fleet) Roll(ctx context.Context, pods, perSecond int) error {
	return f.pace(ctx, pods, perSecond, func(ctx context.Context) error {
		oldest := f.pods[0]
		f.pods = f.pods[1:]
		if err := f.delete(ctx, oldest); err != nil {
			return err
		}
		return f.add(ctx, oldest.node)
	})
}

// pace calls do n times at a steady rate, regardless of its duration. The first error ends it.
func (f *Fleet) pace(ctx context.Context, n, perSecond int, do func(context.Context) error) error {
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for range n {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) roomiest() *node {
	best := f.nodes[0]
	for _, n := range f.nodes {
		if n.pods < best.pods {
			best = n
		}
	}
	return best
}

// pod is one pod with its registrar.
type pod struct {
	name      string
	node      *node
	registrar *agentlet.Registrar
	ended     context.CancelFunc
}

// add creates a pod, starts its registrar, and reports the pod as running and ready, like a kubelet.
func (f *Fleet) add(ctx context.Context, n *node) error {
	f.made++
	ip := net.IPv4(10, byte(64+f.made>>16), byte(f.made>>8), byte(f.made)).String()
	object, err := f.Kube.CoreV1().Pods(f.Namespace).Create(ctx, f.manifest(n), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create pod: %w", err)
	}
	p := &pod{name: object.Name, node: n}
	if err := f.register(p, object, ip); err != nil { //nolint:contextcheck // the registrar's life is the fleet's
		return err
	}
	n.pods++
	f.pods = append(f.pods, p)
	patch, err := json.Marshal(map[string]any{"status": running(n.ip, ip)})
	if err != nil {
		return fmt.Errorf("encode status of %s: %w", p.name, err)
	}
	_, err = f.Kube.CoreV1().Pods(f.Namespace).Patch(ctx, p.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{},
		"status")
	if err != nil {
		return fmt.Errorf("patch status of %s: %w", p.name, err)
	}
	return nil
}

// manifest returns the manifest of the newest pod.
func (f *Fleet) manifest(n *node) *corev1.Pod {
	annotations := map[string]string{contract.ServiceNames: fmt.Sprintf("scale-%02d", f.made%services), contract.DrainDelay: "0s"}
	maps.Copy(annotations, f.Annotations)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("scale-%06d", f.made), Labels: map[string]string{"app": "scale"}, Annotations: annotations,
		},
		Spec: corev1.PodSpec{
			NodeName:       n.name,
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
			Containers:     []corev1.Container{{Name: "app", Image: "scale", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}},
			Tolerations:    []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		},
	}
}

// running returns a kubelet's status of a pod that is ready except for its gates.
func running(hostIP, ip string) corev1.PodStatus {
	now := metav1.Now()
	yes := true
	return corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: hostIP, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: corev1.ConditionTrue, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Image: "scale", Ready: true, Started: &yes,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
}

// register starts the registrar of a pod with its own clients, as in a process of its own.
func (f *Fleet) register(p *pod, object *corev1.Pod, ip string) error {
	config, err := f.access()
	if err != nil {
		return err
	}
	watched, err := kube.NewPod(config, object.Namespace, object.Name, string(object.UID))
	if err != nil {
		return err
	}
	client, err := consul.New(consul.Config{Address: p.node.consulAddress(), Scheme: "http", HostIP: p.node.ip})
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	p.registrar = agentlet.New(agentlet.Config{
		Identity: agentlet.Identity{
			Namespace: object.Namespace, Pod: object.Name, UID: string(object.UID),
			Node: p.node.name, HostIP: p.node.ip, PodIP: ip, ConsulAddress: p.node.consulAddress(),
		},
		Agent: client, View: client, Catalog: client, Kube: watched, Prober: probe.New(ip), Logger: log,
	})
	ctx, cancel := context.WithCancel(f.ctx)
	p.ended = cancel
	f.running.Go(func() { watched.Watch(ctx, log, p.registrar) })
	f.running.Go(func() { defer cancel(); _ = p.registrar.Run(ctx) })
	return nil
}

// sharing is how many registrars share a connection to the API server. In reality each has its own connection, but this process
// may not open enough files for thousands of them.
const sharing = 4

// access returns the API server's configuration for one more registrar.
func (f *Fleet) access() (*rest.Config, error) {
	if f.made%sharing == 1 || f.transport == nil {
		own := rest.CopyConfig(f.REST)
		own.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext // or else client-go shares one connection among all
		transport, err := rest.TransportFor(own)
		if err != nil {
			return nil, fmt.Errorf("make a transport: %w", err)
		}
		f.transport = transport
	}
	return &rest.Config{Host: f.REST.Host, Transport: f.transport, QPS: -1}, nil
}

// drainBound is how long the simulated kubelet waits for a registrar's drain.
const drainBound = 30 * time.Second

// delete deletes a pod, and acts as its kubelet in the background: it waits for the drain, ends the registrar, and removes the
// pod.
func (f *Fleet) delete(ctx context.Context, p *pod) error {
	pods := f.Kube.CoreV1().Pods(f.Namespace)
	if err := pods.Delete(ctx, p.name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete pod: %w", err)
	}
	p.node.pods--
	f.running.Go(func() {
		p.registrar.Drain(f.ctx, drainBound)
		p.registrar.Terminate()
		_ = pods.Delete(f.ctx, p.name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
	})
	return nil
}

// Close deletes all pods, ends all registrars and agents, and removes the nodes.
func (f *Fleet) Close(ctx context.Context) error {
	f.stop()
	f.running.Wait()
	errs := []error{f.Kube.CoreV1().Pods(f.Namespace).DeleteCollection(ctx,
		metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: Label})}
	for _, n := range f.nodes {
		errs = append(errs, f.removeNode(ctx, n))
	}
	for i, err := range errs {
		if apierrors.IsNotFound(err) {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// Agents returns the process IDs of the nodes' Consul agents.
func (f *Fleet) Agents() []int {
	pids := make([]int, 0, len(f.nodes))
	for _, n := range f.nodes {
		pids = append(pids, n.agent.Process.Pid)
	}
	return pids
}

// ForceLeave removes the nodes from the catalog after their agents have ended.
func (f *Fleet) ForceLeave(server *api.Client) error {
	members, err := server.Agent().Members(false)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range f.nodes {
		if slices.ContainsFunc(members, func(m *api.AgentMember) bool { return m.Name == n.name }) {
			errs = append(errs, server.Agent().ForceLeavePrune(n.name))
		}
	}
	return errors.Join(errs...)
}
