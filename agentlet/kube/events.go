package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// maxName is the API server's bound on an object's name, and stampLength what is put behind an event's.
const (
	maxName     = 253
	stampLength = 1 + 16
)

// CreateEvent implements agentlet.Kubernetes. The event has the form of the kubelet's own, so that kubectl describe shows it with
// them. There is no recorder in between: the registrar creates too few events to be counted and aggregated.
func (p *Pod) CreateEvent(ctx context.Context, event agentlet.Event) error {
	err := p.client.Post().Namespace(p.namespace).Resource("events").Body(p.event(event)).Do(ctx).Error()
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	}
	return fmt.Errorf("create event: %w", agentlet.RootCause(err))
}

func (p *Pod) event(event agentlet.Event) *corev1.Event {
	kind := corev1.EventTypeNormal
	if event.Warning {
		kind = corev1.EventTypeWarning
	}
	at := metav1.NewTime(event.At)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.namespace,
			Name:      fmt.Sprintf("%s.%x", strings.TrimRight(p.name[:min(len(p.name), maxName-stampLength)], "-."), event.At.UnixNano()),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: p.namespace, Name: p.name, UID: types.UID(p.uid),
		},
		Type: kind, Reason: string(event.Reason), Message: event.Message,
		FirstTimestamp: at, LastTimestamp: at, Count: 1,
		Source:              corev1.EventSource{Component: contract.ContainerName},
		ReportingController: contract.ReportingController, ReportingInstance: p.name,
	}
}
