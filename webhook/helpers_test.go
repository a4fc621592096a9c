package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/agentlet/agentlet/injector"
)

const testUID = "705ab4f5-6393-11e8-b7cc-42010a800002"

// decide makes a function a Decider.
type decide func(injector.Request) injector.Decision

func (d decide) Decide(request injector.Request) injector.Decision { return d(request) }

// realInjector is the one that the product uses.
func realInjector(t testing.TB) *injector.Injector {
	t.Helper()
	i, err := injector.New(injector.Config{
		Image: "agentlet/agentlet:test", ConsulPort: 8500, ConsulScheme: "http", ClusterName: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// fakeCertificates serves a certificate, or the errors that a test sets.
type fakeCertificates struct {
	certificate *tls.Certificate
	untrusted   error
}

func (f *fakeCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.certificate == nil {
		return nil, errors.New("nothing there yet")
	}
	return f.certificate, nil
}

func (f *fakeCertificates) Trusted() error { return f.untrusted }

func testMutator(decider Decider) *handler { return testPods(decider, nil) }

func testPods(decider Decider, namespaces Namespaces) *handler {
	return testHandler(&pods{podReviewer{decider, nil, namespaces}}, mutating)
}

func testHandler(reviewer reviewer, kind kind) *handler {
	return &handler{
		reviewer, kind, newMetrics(&health{certificates: &fakeCertificates{}}, newLimiters(), "test"), slog.New(slog.DiscardHandler), newMemory(),
	}
}

// envelope encodes a review of an object as the API server does; edit changes it before.
func envelope(t testing.TB, object []byte, edit func(review, request map[string]any)) []byte {
	t.Helper()
	request := map[string]any{
		"uid":       testUID,
		"kind":      map[string]string{"group": "", "version": "v1", "kind": "Pod"},
		"resource":  map[string]string{"group": "", "version": "v1", "resource": "pods"},
		"namespace": "shop",
		"operation": "CREATE",
		"userInfo":  map[string]any{"username": "system:serviceaccount:kube-system:replicaset-controller"},
		"object":    json.RawMessage(object),
		"oldObject": nil,
		"dryRun":    false,
		"options":   map[string]string{"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
	}
	review := map[string]any{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
	if edit != nil {
		edit(review, request)
	}
	body, err := json.Marshal(review)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func ordinaryPod(t testing.TB) []byte {
	t.Helper()
	pod, err := os.ReadFile("testdata/pod.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, pod); err != nil {
		t.Fatal(err)
	}
	return compact.Bytes()
}

func post(handler http.Handler, body []byte) *httptest.ResponseRecorder {
	request := httptest.NewRequestWithContext(context.Background(), http.MethodPost, MutatePath, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	return recorder
}

// answerOf decodes the response of an answered review.
func answerOf(t testing.TB, recorder *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	if recorder.Code != http.StatusOK {
		t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &review); err != nil {
		t.Fatal(err)
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Response == nil {
		t.Fatalf("not an AdmissionReview with a response: %s", recorder.Body)
	}
	if review.Response.UID != testUID {
		t.Errorf("uid %q is not the request's", review.Response.UID)
	}
	return review.Response
}

func operations(path string, value any) []jsonpatch.Operation {
	return []jsonpatch.Operation{jsonpatch.NewOperation("add", path, value)}
}

func get(handler http.Handler, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil))
	return recorder
}
