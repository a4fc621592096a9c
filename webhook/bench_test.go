package webhook

import (
	"net/http"
	"testing"
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
}
