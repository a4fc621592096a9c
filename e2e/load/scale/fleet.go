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

// Label of all pods of a fleet; floorLabel is of the pod that the floor is measured with, which counts for none of it.
const (
	Label      = "app=scale"
	floorLabel = "app=scale-floor"
)

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
	return f.pace(ctx, size-len(f.pods), perSecond, func(ctx context.Context) error {
		p, err := f.add(ctx, f.roomiest())
		if err != nil {
			return err
		}
		return f.setStatus(ctx, p, true)
	})
}

// Roll replaces that many pods, the oldest first, perSecond of them a second. A new pod's containers run at once and are ready a
// second later, so that its agentlet has registered before. between is called after each replacement, half way to the next; nil:
// nothing is.
func (f *Fleet) Roll(ctx context.Context, pods, perSecond int, between func(context.Context) error) error {
	var starting []*pod
	err := f.pace(ctx, pods, perSecond, func(ctx context.Context) error {
		oldest := f.pods[0]
		f.pods = f.pods[1:]
		if err := f.delete(ctx, oldest); err != nil {
			return err
		}
		p, err := f.add(ctx, oldest.node)
		if err != nil {
			return err
		}
		if err := f.setStatus(ctx, p, false); err != nil {
			return err
		}
		if starting = append(starting, p); len(starting) > perSecond {
			p, starting = starting[0], starting[1:]
			if err := f.setStatus(ctx, p, true); err != nil {
				return err
			}
		}
		if between == nil {
			return nil
		}
		if err := pause(ctx, time.Second/time.Duration(2*perSecond)); err != nil {
			return err
		}
		return between(ctx)
	})
	if err != nil {
		return err
	}
	return f.pace(ctx, len(starting), perSecond, func(ctx context.Context) error {
		p := starting[0]
		starting = starting[1:]
		return f.setStatus(ctx, p, true)
	})
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
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
	name, ip  string
	node      *node
	registrar *agentlet.Registrar
	ended     context.CancelFunc
}

// add creates a pod and starts its registrar.
func (f *Fleet) add(ctx context.Context, n *node) (*pod, error) {
	f.made++
	ip := net.IPv4(10, byte(64+f.made>>16), byte(f.made>>8), byte(f.made)).String()
	object, err := f.Kube.CoreV1().Pods(f.Namespace).Create(ctx, f.manifest(n), metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create pod: %w", err)
	}
	p := &pod{name: object.Name, ip: ip, node: n}
	if err := f.register(p, object); err != nil { //nolint:contextcheck // the registrar's life is the fleet's
		return nil, err
	}
	n.pods++
	f.pods = append(f.pods, p)
	return p, nil
}

// setStatus says for the kubelet that a pod runs, and whether its containers are ready.
func (f *Fleet) setStatus(ctx context.Context, p *pod, ready bool) error {
	patch, err := json.Marshal(map[string]any{"status": running(p.node.ip, p.ip, ready)})
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

// running is what a kubelet says of a pod that runs, and is ready but for its gates, or not ready yet.
func running(hostIP, ip string, ready bool) corev1.PodStatus {
	now := metav1.Now()
	containersReady := corev1.ConditionFalse
	if ready {
		containersReady = corev1.ConditionTrue
	}
	return corev1.PodStatus{
		Phase: corev1.PodRunning, HostIP: hostIP, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: containersReady, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Image: "scale", Ready: ready, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
}

// register starts the registrar of a pod, with clients of its own, as each process has them.
func (f *Fleet) register(p *pod, object *corev1.Pod) error {
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
	log, prober := slog.New(slog.DiscardHandler), probe.New(p.ip)
	p.registrar = agentlet.New(agentlet.Config{
		Identity: agentlet.Identity{
			Namespace: object.Namespace, Pod: object.Name, UID: string(object.UID),
			Node: p.node.name, HostIP: p.node.ip, PodIP: p.ip, ConsulAddress: p.node.consulAddress(),
		},
		Agent: client, View: client, Catalog: client, Kube: watched, Prober: prober, Hooks: prober, Logger: log,
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
		transport, err := f.connect()
		if err != nil {
			return nil, err
		}
		f.transport = transport
	}
	return &rest.Config{Host: f.REST.Host, Transport: f.transport, QPS: -1}, nil
}

// connect returns a transport to the API server with a connection of its own, where client-go would share one among all.
func (f *Fleet) connect() (http.RoundTripper, error) {
	own := rest.CopyConfig(f.REST)
	own.Dial = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	transport, err := rest.TransportFor(own)
	if err != nil {
		return nil, fmt.Errorf("make a transport: %w", err)
	}
	return transport, nil
}

// drainBound is what the kubelet's part waits for a registrar's drain.
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
	var errs []error
	for _, label := range []string{Label, floorLabel} {
		errs = append(errs, f.Kube.CoreV1().Pods(f.Namespace).DeleteCollection(ctx,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{LabelSelector: label}))
	}
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
