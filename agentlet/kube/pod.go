// Package kube is the registrar's adapter to the API server: it watches the own pod and writes the own condition.
package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/agentlet/agentlet/agentlet"
)

// Pod is one pod at the API server.
type Pod struct {
	client               rest.Interface
	namespace, name, uid string
}

var _ agentlet.Kubernetes = (*Pod)(nil)

// NewPod returns the pod with this UID. It makes no request. It uses a client for this one resource: the full clientset
// would link every API group into each pod's process.
func NewPod(config *rest.Config, namespace, name, uid string) (*Pod, error) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("make scheme: %w", err)
	}
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion)
	config = rest.CopyConfig(config)
	// The API server is in the cluster, whatever HTTPS_PROXY says, which somebody may set for all containers.
	config.Proxy = http.ProxyURL(nil)
	config.APIPath = "/api"
	config.GroupVersion = &corev1.SchemeGroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make API client: %w", err)
	}
	return &Pod{client: client, namespace: namespace, name: name, uid: uid}, nil
}

// Sink receives what the watch sees.
type Sink interface {
	// OnUpdate is called with the pod as it is now. The pod is the sink's; nobody changes it.
	OnUpdate(pod *corev1.Pod)
	// OnDelete is called when the API server says that there is no such pod.
	OnDelete()
}

// Watch reports the pod to sink until ctx ends. It lists once and then watches; whatever breaks is taken up again with
// client-go's backoff, and meanwhile the sink keeps what it has. An outage is logged when it begins and when it is over;
// client-go's own log, a line for each try in a form of its own, is left out.
func (p *Pod) Watch(ctx context.Context, log *slog.Logger, sink Sink) {
	ctx = klog.NewContext(ctx, logr.Discard())
	list := logged(log,
		cache.NewListWatchFromClient(p.client, "pods", p.namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, p.name)))
	store := &podStore{sink: sink, uid: types.UID(p.uid), read: func() (*corev1.Pod, error) { return p.get(ctx) }}
	reflector := cache.NewReflectorWithOptions(list, &corev1.Pod{}, store,
		cache.ReflectorOptions{Name: "own-pod", Backoff: backoff()})
	reflector.RunWithContext(ctx)
}

// backoff between two tries to watch: from 0.5 to 10 seconds, and up to as much again by chance. client-go's own ends at
// 30 to 60 seconds, which is how long a pod's readiness would still be unknown to Consul after an outage.
func backoff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 2, Steps: 5, Cap: 10 * time.Second, Jitter: 1}
}

// getTimeout bounds the one reading that is no watch.
const getTimeout = 10 * time.Second

func (p *Pod) get(ctx context.Context) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	pod := &corev1.Pod{}
	return pod, p.client.Get().Namespace(p.namespace).Resource("pods").Name(p.name).Do(ctx).Into(pod)
}

// SetConditions implements agentlet.Kubernetes. It sends these conditions, with the UID as precondition: a successor with
// the same name answers with a conflict. agentlet.ErrAbsent when the pod is gone.
func (p *Pod) SetConditions(ctx context.Context, conditions []corev1.PodCondition) (version string, err error) {
	// Spelled out, because a marshalled PodCondition would also send fields that the API server sets.
	sent := make([]any, 0, len(conditions))
	for i := range conditions {
		condition := &conditions[i]
		sent = append(sent, map[string]any{
			"type":               condition.Type,
			"status":             condition.Status,
			"reason":             condition.Reason,
			"message":            condition.Message,
			"lastTransitionTime": condition.LastTransitionTime.UTC().Format(time.RFC3339),
		})
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": p.uid},
		"status":   map[string]any{"conditions": sent},
	})
	if err != nil {
		return "", fmt.Errorf("marshal condition: %w", err)
	}
	written := &corev1.Pod{}
	err = p.client.Patch(types.StrategicMergePatchType).
		Namespace(p.namespace).Resource("pods").Name(p.name).SubResource("status").
		Body(patch).Do(ctx).Into(written)
	switch {
	case err == nil:
		return written.ResourceVersion, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return "", context.Canceled
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("set condition: %w", agentlet.ErrAbsent)
	}
	return "", fmt.Errorf("set condition: %w", err)
}
