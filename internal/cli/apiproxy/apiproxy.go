// Package apiproxy calls pods and nodes through the API server's proxies, so that the user's machine needs no route to their
// addresses.
package apiproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// callTimeout bounds one call; a healthy target answers at once.
const callTimeout = 5 * time.Second

// ErrForbidden means that the user may not use the API server's proxy. It says nothing about the target.
var ErrForbidden = errors.New("the API server's proxy is not allowed")

// ErrStarting means that the agentlet has no status yet.
var ErrStarting = errors.New("the agentlet has just started")

// Cluster calls a cluster's pods and nodes through its API server. The client's transport should be one of BoundAPI.
type Cluster struct {
	Client kubernetes.Interface
}

// Pod sends a GET request to a pod's port by HTTP. If the API server itself rejects it, the error is ErrForbidden; an error
// status from the pod is an AnswerError.
func (c Cluster) Pod(ctx context.Context, namespace, pod, port, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := c.get(ctx, c.Client.CoreV1().RESTClient().Get().Namespace(namespace), "pods", "http:"+pod+":"+port, path)
	if err != nil {
		return body, fmt.Errorf("get %s of pod %s/%s: %w", path, namespace, pod, err)
	}
	return body, nil
}

// Node sends a GET request to a port of a node's own address.
func (c Cluster) Node(ctx context.Context, scheme, node string, port int, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := c.get(ctx, c.Client.CoreV1().RESTClient().Get(), "nodes", scheme+":"+node+":"+strconv.Itoa(port), path)
	if err != nil {
		return body, fmt.Errorf("get %s of node %s, port %d: %w", path, node, port, err)
	}
	return body, nil
}

// get sends a GET request through the API server's proxy for a resource. The API server's own errors are JSON.
func (c Cluster) get(ctx context.Context, request *rest.Request, resource, name, path string) ([]byte, error) {
	body, err := request.Resource(resource).Name(name).SubResource("proxy").Suffix(path).
		SetHeader("Accept", runtime.ContentTypeJSON).DoRaw(asProxied(ctx))
	if err != nil {
		return body, refusal(err, body, resource)
	}
	return body, nil
}

// AnswerError is an error status from a target behind the API server's proxy.
type AnswerError struct {
	Status int
	Body   string
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("the answer has status %d: %s", e.Status, excerpt(e.Body))
}

// excerpt returns the beginning of an answer on one line, for a message.
func excerpt(text string) string {
	const most = 300 // bytes
	return registration.Truncate(strings.Join(strings.Fields(text), " "), most)
}

// refusal distinguishes the API server's own errors, which are Status objects, from answers of the target. The client's error
// contains the text of neither.
func refusal(err error, body []byte, resource string) error {
	var own metav1.Status
	if json.Unmarshal(body, &own) == nil && own.Kind == "Status" && own.Message != "" {
		if own.Reason == metav1.StatusReasonForbidden && own.Details != nil && own.Details.Kind == resource {
			return ErrForbidden
		}
		own.Message = excerpt(own.Message)
		return &apierrors.StatusError{ErrStatus: own}
	}
	status := apierrors.APIStatus(nil)
	if errors.As(err, &status) && len(body) > 0 {
		return &AnswerError{Status: int(status.Status().Code), Body: string(body)}
	}
	return err
}

// Status returns the status that the pod's agentlet reports.
func (c Cluster) Status(ctx context.Context, pod *corev1.Pod) (*contract.Status, error) {
	container := registration.Agentlet(pod)
	if container == nil || len(container.Ports) == 0 {
		return nil, fmt.Errorf("pod %s/%s has no agentlet", pod.Namespace, pod.Name)
	}
	body, err := c.Pod(ctx, pod.Namespace, pod.Name, strconv.Itoa(int(container.Ports[0].ContainerPort)), contract.StatusPath)
	if err != nil {
		return nil, err
	}
	var status *contract.Status
	if err := json.Unmarshal(body, &status); err != nil {
		return nil, fmt.Errorf("decode status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	if status == nil {
		return nil, ErrStarting
	}
	if n, most := len(status.Services), 2*registration.MaxServices; n > most { // each may have a proxy
		return nil, fmt.Errorf("the status of pod %s/%s names %d services, and a pod has at most %d", pod.Namespace, pod.Name, n, most)
	}
	return status, nil
}

// Gated reports whether the pod has Agentlet's readiness gate.
func Gated(pod *corev1.Pod) bool {
	for _, gate := range pod.Spec.ReadinessGates {
		if gate.ConditionType == contract.Condition {
			return true
		}
	}
	return false
}

// Condition returns the pod's condition of this type, or nil.
func Condition(pod *corev1.Pod, of corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == of {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
