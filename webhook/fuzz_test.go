package webhook

import (
	"encoding/json"
	"net/http"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
)

// FuzzReview sends any body. The answer is a 4xx, or a review that repeats the uid. A panic would be a 500.
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

// FuzzWorkload sends any object and old object to the webhook for workloads. It answers, or leaves them to the failurePolicy,
// and never denies an unchanged object.
func FuzzWorkload(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"apiVersion":"apps/v1","kind":"Deployment"}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","spec":{"template":{"metadata":{"annotations":{"agentlet.dev/services":"- {name: a, port: 1}"}},"spec":{"containers":[{"name":"a"},null]}}}}`,
		`{"apiVersion":"batch/v1","kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{"agentlet.dev/service-names":"a","agentlet.dev/gate":"x"}}}}}}}`,
	} {
		f.Add([]byte(seed), []byte(seed))
	}
	handler := testWorkloads(realInjector(f), nil)
	f.Fuzz(func(t *testing.T, object, old []byte) {
		if !json.Valid(object) || !json.Valid(old) {
			t.Skip()
		}
		body := envelope(t, object, func(_, request map[string]any) {
			request["operation"], request["oldObject"] = "UPDATE", json.RawMessage(old)
		})
		recorder := post(handler, body)
		switch recorder.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		case http.StatusOK:
			if answer := answerOf(t, recorder); !answer.Allowed && string(object) == string(old) {
				t.Fatalf("denied without a change: %s", answer.Result.Message)
			}
		default:
			t.Fatalf("status %d: %s", recorder.Code, recorder.Body)
		}
	})
}
