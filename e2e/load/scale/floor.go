package scale

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/e2e/observe"
)

// Floor measures, beside a fleet's pods, what bare clients take for the two calls between a pod's ready containers and its open
// gate: an instance's check, at the agent of the fleet's first node, and a status, of a pod without a registrar there. Each
// client has a connection of its own, as a registrar has.
type Floor struct {
	bare *observe.Bare
	kube kubernetes.Interface
	pod  *corev1.Pod
	up   bool
}

const floorName = "scale-floor"

// NewFloor registers the instance, which goes with the node, and creates the pod, which goes with the fleet. The fleet has to
// have grown before.
func (f *Fleet) NewFloor(ctx context.Context, server *api.Client) (*Floor, error) {
	n := f.nodes[0]
	transport, err := f.connect()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: f.REST.Host, Transport: transport, QPS: -1})
	if err != nil {
		return nil, fmt.Errorf("make API client: %w", err)
	}
	manifest := f.manifest(n)
	manifest.ObjectMeta = metav1.ObjectMeta{Name: floorName, Labels: map[string]string{"app": floorName}}
	pod, err := client.CoreV1().Pods(f.Namespace).Create(ctx, manifest, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("create the floor's pod: %w", err)
	}
	agent, err := api.NewClient(&api.Config{Address: n.consulAddress()})
	if err != nil {
		return nil, fmt.Errorf("make Consul client: %w", err)
	}
	bare := observe.NewBare(f.ctx, agent, server, floorName) //nolint:contextcheck // it follows for as long as the fleet lives
	if _, err := bare.Register(ctx); err != nil {
		return nil, err
	}
	return &Floor{bare: bare, kube: client, pod: pod}, nil
}

// Measure returns the milliseconds of one update of the check until the catalog shows it and one patch of the status. Each turn
// says the opposite of the last one: both ways are one write.
func (f *Floor) Measure(ctx context.Context) (float64, error) {
	f.up = !f.up
	set := f.bare.Fail
	if f.up {
		set = f.bare.Pass
	}
	updated, err := set(ctx)
	if err != nil {
		return 0, err
	}
	patched, err := observe.PatchGate(ctx, f.kube, f.pod, f.up)
	if err != nil {
		return 0, fmt.Errorf("patch the floor's pod: %w", err)
	}
	return observe.Milliseconds(updated + patched), nil
}
