package webhook

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
)

// BenchmarkAdmission measures an ordinary pod from the raw review to the raw response.
func BenchmarkAdmission(b *testing.B) {
	handler := testMutator(realInjector(b))
	body := envelope(b, ordinaryPod(b), nil)
	if recorder := post(handler, body); answerOf(b, recorder).Patch == nil {
		b.Fatalf("nothing was injected: %s", recorder.Body)
	}
	b.Run("handler", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if recorder := post(handler, body); recorder.Code != http.StatusOK {
				b.Fatal(recorder.Body)
			}
		}
	})
	b.Run("not-a-pod", func(b *testing.B) {
		other := envelope(b, ordinaryPod(b), func(_, request map[string]any) { request["operation"] = "UPDATE" })
		b.ReportAllocs()
		for b.Loop() {
			if recorder := post(handler, other); recorder.Code != http.StatusOK {
				b.Fatal(recorder.Body)
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			if err := decodeBare(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	// Both in turn, and their medians: what else runs on the machine slows both, or neither.
	b.Run("over-json", func(b *testing.B) {
		var whole, bare []time.Duration
		for b.Loop() {
			began := time.Now()
			recorder := post(handler, body)
			answered := time.Now()
			err := decodeBare(body)
			whole, bare = append(whole, answered.Sub(began)), append(bare, time.Since(answered))
			if recorder.Code != http.StatusOK || err != nil {
				b.Fatal(recorder.Body, err)
			}
		}
		slices.Sort(whole)
		slices.Sort(bare)
		b.ReportMetric(float64(whole[len(whole)/2])/float64(bare[len(bare)/2]), "x")
		b.ReportMetric(0, "ns/op") // it would be that of both together
	})
}

// decodeBare reads a review and its pod into Kubernetes' types, which is where a webhook usually begins.
func decodeBare(body []byte) error {
	var (
		review admissionv1.AdmissionReview
		pod    corev1.Pod
	)
	if err := json.Unmarshal(body, &review); err != nil {
		return err
	}
	return json.Unmarshal(review.Request.Object.Raw, &pod)
}
