package webhook

import (
	"encoding/json"
	"net/http"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// FuzzReview sends anything at all: the answer is a 4xx, or a review that echoes the uid. Never a panic, which would show
// as a 500.
func FuzzReview(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`))
	f.Add(envelope(f, ordinaryPod(f), nil))
	f.Add(envelope(f, []byte(`{"apiVersion":"v1","kind":"Pod"}`), nil))
	f.Add(envelope(f, []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"agentlet.dev/services":"- {name: a, port: 1}"}},"spec":{"containers":[{"name":"a"},null]}}`), nil))
	f.Add(envelope(f, []byte(`[]`), func(_, request map[string]any) { request["operation"] = "DELETE" }))
	handler := testMutator(realInjector(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		recorder := post(handler, body)
		switch recorder.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			return
		case http.StatusOK:
		default:
			t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
		}
		var answer admissionv1.AdmissionReview
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			t.Fatalf("decode answer: %v", err)
		}
		in, _, _, err := decodeReview(body)
		if err != nil {
			t.Fatalf("answered what can't be decoded: %v", err)
		}
		if answer.Response == nil || answer.Response.UID != in.UID {
			t.Fatalf("the uid is not echoed: %s", recorder.Body)
		}
		if answer.Response.Allowed != (answer.Response.Result == nil) {
			t.Fatalf("a denial without a word, or an admission with one: %s", recorder.Body)
		}
	})
}
