package real

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// Limits of a connection flood.
const (
	floodConnections = 2000
	floodRate        = 1000 // opened per second
	floodLasts       = 10 * time.Second
)

// Source addresses of a flood from many addresses. They are in the range reserved for network benchmarks.
const (
	manyAddresses = "198.18.0.0/16"
	firstAddress  = "198.18.0.1"
	manySources   = 500
)

// flood runs the sample's flood, which opens connections and keeps them open, against a pod's port. The connections come from
// another pod, or from many addresses that the pod's node has meanwhile.
func (w *World) flood(ctx context.Context, step chaos.Step, pod *corev1.Pod, port string, more ...string) (string, error) {
	stranger, err := w.stranger(pod)
	if err != nil {
		return "", err
	}
	address, node := net.JoinHostPort(pod.Status.PodIP, port), w.Cluster.Node(pod.Spec.NodeName)
	program, netns := stranger("root/sample"), stranger("ns/net")
	args := append([]string{
		"flood",
		"-to",
		address,
		"-connections",
		strconv.Itoa(floodConnections),
		"-rate",
		strconv.Itoa(floodRate),
		"-for",
		floodLasts.String(),
		"-send",
		[]string{"silent", "half", "metrics"}[step.Pick%3],
	}, more...)
	if step.Pick&4 > 0 {
		name := filepath.Base(node.Netns())
		if err := w.Command(ctx, "ip", "-n", name, "route", "replace", "local", manyAddresses, "dev", "lo"); err != nil {
			return "", err
		}
		defer func() {
			_ = w.Command(context.WithoutCancel(ctx), "ip", "-n", name, "route", "delete", "local", manyAddresses, "dev", "lo")
		}()
		netns, args = node.Netns(), append(args, "-from", firstAddress, "-sources", strconv.Itoa(manySources))
	}
	ctx, cancel := context.WithTimeout(ctx, floodLasts+callTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + netns, program}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("flood %s: %w: %s", address, err, out)
	}
	return fmt.Sprintf("%s: %q: %s", pod.Name, args[1:], bytes.TrimSpace(out)), nil
}

// stranger returns the process files of a pod other than this one.
func (w *World) stranger(than *corev1.Pod) (file func(name string) string, err error) {
	for _, pod := range w.watch.pods(w.Namespace) {
		if pod.UID == than.UID {
			continue
		}
		if process, err := scenario.FindProcess(applicationWords, string(pod.UID)); err == nil {
			return func(name string) string { return filepath.Join("/proc", strconv.Itoa(process.PID), name) }, nil
		}
	}
	return nil, fmt.Errorf("%w: no other pod runs", chaos.ErrNothing)
}

func floodAgentlet(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.one(ctx, step)
	if err != nil {
		return "", nil, err
	}
	seen, err := w.flood(ctx, step, pod, "19500")
	return seen, nil, err
}

func floodWebhook(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	pod, err := w.aWebhook(step)
	if err != nil {
		return "", nil, err
	}
	port, more := "8080", []string(nil)
	if step.Pick&8 > 0 {
		port, more = "9443", []string{"-tls"}
	}
	seen, err := w.flood(ctx, step, pod, port, more...)
	return seen, nil, err
}

// Limits of a flood of admission reviews.
const (
	floodReviewCount   = 200
	floodReviewCallers = 20
	floodReviewSize    = 400 << 10
)

// floodReviews makes a replica of the webhook review large pods.
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
		request, err := http.NewRequestWithContext(ctx, http.MethodPost,
			"https://"+net.JoinHostPort(pod.Status.PodIP, "9443")+"/mutate", bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		request.Header.Set("Content-Type", "application/json")
		return answer(client, request)
	})
	return pod.Name + ": " + answers, nil, nil
}

// review returns an admission review of a pod with many environment variables.
func (w *World) review() ([]byte, error) {
	pod := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: *w.Template.ObjectMeta.DeepCopy(),
		Spec:       *w.Template.Spec.DeepCopy(),
	}
	pod.Namespace = w.Namespace
	const size = 40 // bytes of one variable in JSON
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
			UID:             types.UID("flood"),
			Kind:            kind,
			Resource:        resource,
			RequestKind:     &kind,
			RequestResource: &resource,
			Namespace:       w.Namespace,
			Operation:       admissionv1.Create,
			Object:          runtime.RawExtension{Raw: raw},
		},
	})
}
