package real

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/e2e/chaos"
)

// Bounds of a flood of connections.
const (
	floodConnections = 4000
	floodOpeners     = 50
	floodLasts       = 10 * time.Second
)

// flood opens idle connections to an address, holds them for a while, and closes them all.
func flood(ctx context.Context, address string) string {
	ctx, cancel := context.WithTimeout(ctx, floodLasts)
	defer cancel()
	var opened, refused, closed atomic.Int64
	_ = concurrently(ctx, floodConnections, floodOpeners, func(call context.Context, i int) string {
		connection, err := (&net.Dialer{Timeout: time.Second}).DialContext(call, "tcp", address)
		if err != nil {
			refused.Add(1)
			return ""
		}
		opened.Add(1)
		switch i % 3 {
		case 0: // says nothing
		case 1:
			_, _ = fmt.Fprintf(connection, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") // and doesn't read
		case 2:
			_, _ = fmt.Fprintf(connection, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Half: ") // and no more
		}
		context.AfterFunc(ctx, func() { closed.Add(1); connection.Close() })
		return ""
	})
	<-ctx.Done()
	return fmt.Sprintf("%d connections were opened, %d were not", opened.Load(), refused.Load())
}

func floodAgentlet(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	return pod.Name + ": " + flood(ctx, net.JoinHostPort(pod.Status.PodIP, "19500")), nil, nil
}

func floodWebhook(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.aWebhook(step)
	if err != nil {
		return "", nil, err
	}
	port := []string{"9443", "8080"}[step.Pick%2]
	return pod.Name + ":" + port + ": " + flood(ctx, net.JoinHostPort(pod.Status.PodIP, port)), nil, nil
}

// Bounds of a flood of reviews.
const (
	floodReviewCount   = 200
	floodReviewCallers = 20
	floodReviewSize    = 400 << 10
)

// floodReviews has a replica of the webhook review large pods.
func floodReviews(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.aWebhook(step)
	if err != nil {
		return "", nil, err
	}
	body, err := w.review()
	if err != nil {
		return "", nil, err
	}
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a stranger doesn't ask who answers
	}}
	defer client.CloseIdleConnections()
	answers := concurrently(ctx, floodReviewCount, floodReviewCallers, func(ctx context.Context, _ int) string {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+net.JoinHostPort(pod.Status.PodIP, "9443")+"/mutate", bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		request.Header.Set("Content-Type", "application/json")
		return answer(client, request)
	})
	return pod.Name + ": " + answers, nil, nil
}

// review of a pod with many variables.
func (w *World) review() ([]byte, error) {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: *w.Template.ObjectMeta.DeepCopy(), Spec: *w.Template.Spec.DeepCopy()}
	pod.Namespace = w.Namespace
	const size = 40 // of a variable in JSON
	for i := range floodReviewSize / size {
		pod.Spec.Containers[0].Env = append(pod.Spec.Containers[0].Env, corev1.EnvVar{Name: fmt.Sprintf("V%d", i), Value: "0123456789"})
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	return json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("flood"), Kind: kind, Resource: resource, RequestKind: &kind, RequestResource: &resource, Namespace: w.Namespace,
			Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		},
	})
}
