package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
)

func TestMalformedRequestsGetAClearAnswer(t *testing.T) {
	pod := ordinaryPod(t)
	review := func(edit func(review, request map[string]any)) []byte { return envelope(t, pod, edit) }
	object := func(raw string) []byte { return envelope(t, []byte(raw), nil) }
	for name, test := range map[string]struct {
		method, contentType string
		body                []byte
		status              int    // HTTP
		denied              int32  // code in the AdmissionReview, with status 200
		says                string // part of the answer
	}{
		"GET":                     {method: http.MethodGet, status: 405, says: "only POST"},
		"no content type":         {contentType: "-", body: review(nil), status: 415, says: "application/json"},
		"YAML":                    {contentType: "application/yaml", body: review(nil), status: 415, says: "application/json"},
		"content type's rubbish":  {contentType: "a/b/c;", body: review(nil), status: 415, says: "application/json"},
		"charset is no matter":    {contentType: "application/json; charset=utf-8", body: review(nil), status: 200},
		"empty":                   {status: 400, says: "empty"},
		"no JSON":                 {body: []byte("hello"), status: 400, says: "decode AdmissionReview"},
		"cut off":                 {body: review(nil)[:300], status: 400, says: "unexpected end"},
		"a list":                  {body: []byte("[]"), status: 400, says: "decode AdmissionReview"},
		"null":                    {body: []byte("null"), status: 400, says: "want apiVersion"},
		"too large":               {body: bytes.Repeat([]byte(" "), maxBody+1), status: 500, says: "larger than"},
		"largest":                 {body: append(review(nil), bytes.Repeat([]byte(" "), maxBody-len(review(nil)))...), status: 200},
		"v1beta1":                 {body: review(func(r, _ map[string]any) { r["apiVersion"] = "admission.k8s.io/v1beta1" }), status: 400, says: "admission.k8s.io/v1beta1"},
		"another kind":            {body: review(func(r, _ map[string]any) { r["kind"] = "ConversionReview" }), status: 400, says: "ConversionReview"},
		"no request":              {body: review(func(r, _ map[string]any) { delete(r, "request") }), status: 400, says: "no request"},
		"null request":            {body: review(func(r, _ map[string]any) { r["request"] = nil }), status: 400, says: "no request"},
		"request is a text":       {body: review(func(r, _ map[string]any) { r["request"] = "x" }), status: 400, says: "decode AdmissionReview"},
		"no uid":                  {body: review(func(_, r map[string]any) { delete(r, "uid") }), status: 400, says: "no uid"},
		"no object":               {body: review(func(_, r map[string]any) { delete(r, "object") }), status: 200, denied: 400, says: "no object"},
		"null object":             {body: object("null"), status: 200, denied: 400, says: "no object"},
		"object is a number":      {body: object("7"), status: 200, denied: 400, says: "decode pod"},
		"object is a list":        {body: object("[]"), status: 200, denied: 400, says: "decode pod"},
		"object is empty":         {body: object("{}"), status: 200, denied: 400, says: "want apiVersion"},
		"object is a ConfigMap":   {body: object(`{"apiVersion":"v1","kind":"ConfigMap","data":{}}`), status: 200, denied: 400, says: "ConfigMap"},
		"object has a wrong type": {body: object(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":{}}}`), status: 200, denied: 400, says: "decode pod"},
		"bad quantity":            {body: object(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}`), status: 200, denied: 400, says: "decode pod"},
		"no namespace":            {body: review(func(_, r map[string]any) { delete(r, "namespace") }), status: 200, denied: 400, says: "no namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = http.MethodPost
			}
			if test.contentType == "" {
				test.contentType = "application/json"
			}
			request := httptest.NewRequestWithContext(t.Context(), test.method, MutatePath, bytes.NewReader(test.body))
			request.Header.Set("Content-Type", strings.TrimPrefix(test.contentType, "-"))
			recorder := httptest.NewRecorder()
			testMutator(realInjector(t)).ServeHTTP(recorder, request)
			if recorder.Code != test.status {
				t.Fatalf("status %d, want %d: %s", recorder.Code, test.status, recorder.Body)
			}
			if !strings.Contains(recorder.Body.String(), test.says) {
				t.Errorf("the answer does not say %q: %s", test.says, recorder.Body)
			}
			if test.status != http.StatusOK {
				return
			}
			response := answerOf(t, recorder)
			if response.Allowed == (test.denied != 0) {
				t.Errorf("allowed: %t", response.Allowed)
			}
			if test.denied != 0 && response.Result.Code != test.denied {
				t.Errorf("code %d, want %d", response.Result.Code, test.denied)
			}
		})
	}
}

func TestOnlyPodCreationsAreReviewed(t *testing.T) {
	fail := decide(func(injector.Request) injector.Decision { t.Error("judged"); return injector.Decision{} })
	for name, edit := range map[string]func(_, request map[string]any){
		"update":   func(_, r map[string]any) { r["operation"] = "UPDATE" },
		"delete":   func(_, r map[string]any) { r["operation"] = "DELETE"; r["object"] = nil },
		"connect":  func(_, r map[string]any) { r["operation"] = "CONNECT" },
		"eviction": func(_, r map[string]any) { r["subResource"] = "eviction" },
		"ephemeral containers": func(_, r map[string]any) {
			r["operation"], r["subResource"] = "UPDATE", "ephemeralcontainers"
		},
		"resize":  func(_, r map[string]any) { r["operation"], r["subResource"] = "UPDATE", "resize" },
		"binding": func(_, r map[string]any) { r["subResource"] = "binding" },
		"another kind": func(_, r map[string]any) {
			r["kind"] = map[string]string{"group": "apps", "version": "v1", "kind": "Deployment"}
		},
		"another group":  func(_, r map[string]any) { r["kind"] = map[string]string{"group": "x", "version": "v1", "kind": "Pod"} },
		"strange object": func(_, r map[string]any) { r["operation"] = "UPDATE"; r["object"] = []int{1} },
	} {
		t.Run(name, func(t *testing.T) {
			handler := testMutator(fail)
			response := answerOf(t, post(handler, envelope(t, ordinaryPod(t), edit)))
			if !response.Allowed || response.Patch != nil || response.PatchType != nil {
				t.Errorf("not let through untouched: %+v", response)
			}
			if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "skipped", "NotAPodCreation")); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

func TestTheInjectorGetsTheRequestsNamespaceAndANonce(t *testing.T) {
	var got []injector.Request
	handler := testMutator(decide(func(request injector.Request) injector.Decision {
		got = append(got, request)
		return injector.Decision{Outcome: injector.Skipped, Reason: "Test"}
	}))
	pod := []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","namespace":"elsewhere"}}`)
	post(handler, envelope(t, pod, nil))
	post(handler, envelope(t, pod, nil))
	post(handler, envelope(t, pod, func(_, r map[string]any) { r["uid"] = "another"; r["dryRun"] = true }))
	if len(got) != 3 {
		t.Fatalf("asked %d times", len(got))
	}
	if got[0].Namespace != "shop" || got[0].Pod.Name != "p" {
		t.Errorf("got %+v", got[0])
	}
	if len(got[0].Nonce) != 16 || got[0].Nonce != got[1].Nonce || got[0].Nonce == got[2].Nonce {
		t.Errorf("nonces %q, %q, %q: want 16 characters, a function of the uid", got[0].Nonce, got[1].Nonce, got[2].Nonce)
	}
}

func TestAnOrdinaryPodGetsItsPatch(t *testing.T) {
	pod := ordinaryPod(t)
	handler := testMutator(realInjector(t))
	response := answerOf(t, post(handler, envelope(t, pod, nil)))
	if !response.Allowed || response.PatchType == nil || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("no patch: %+v", response)
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patch.Apply(pod)
	if err != nil {
		t.Fatal(err)
	}
	var after corev1.Pod
	if err := json.Unmarshal(patched, &after); err != nil {
		t.Fatal(err)
	}
	if registration.Agentlet(&after) == nil {
		t.Errorf("no agentlet: %s", patched)
	}
	again := answerOf(t, post(handler, envelope(t, patched, nil)))
	if !again.Allowed || again.Patch != nil {
		t.Errorf("reinvoked, it changes its own work: %s", again.Patch)
	}
	if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "injected", "Injected")); n != 1 {
		t.Errorf("injections counted %v times", n)
	}
}

func TestADenialListsEveryError(t *testing.T) {
	path := field.NewPath("metadata", "annotations")
	errs := field.ErrorList{
		field.Invalid(path.Key("agentlet.dev/service-port"), "htp", "must be a port"),
		field.Invalid(path.Key("agentlet.dev/drain-delay"), "5", "must be a duration"),
	}
	for name, test := range map[string]struct {
		errors field.ErrorList
		want   string
	}{
		"none": {nil, "InvalidAnnotations"},
		"one":  {errs[:1], `metadata.annotations[agentlet.dev/service-port]: Invalid value: "htp": must be a port`},
		"two": {errs, "2 errors:\n" +
			`- metadata.annotations[agentlet.dev/service-port]: Invalid value: "htp": must be a port` + "\n" +
			`- metadata.annotations[agentlet.dev/drain-delay]: Invalid value: "5": must be a duration`},
	} {
		t.Run(name, func(t *testing.T) {
			handler := testMutator(decide(func(injector.Request) injector.Decision {
				return injector.Decision{
					Outcome: injector.Denied, Reason: injector.ReasonInvalidAnnotations, Errors: test.errors, Warnings: []registration.Warning{{Message: "and\nthis"}},
				}
			}))
			response := answerOf(t, post(handler, envelope(t, ordinaryPod(t), nil)))
			if response.Allowed || response.Result.Code != http.StatusUnprocessableEntity || response.Result.Message != test.want {
				t.Errorf("allowed %t, %+v", response.Allowed, response.Result)
			}
			if !slices.Equal(response.Warnings, []string{"and this"}) {
				t.Errorf("warnings %q", response.Warnings)
			}
		})
	}
}

func TestOwnErrorsAreLeftToFailurePolicy(t *testing.T) {
	var log bytes.Buffer
	for name, decider := range map[string]Decider{
		"panic": decide(func(injector.Request) injector.Decision { panic("oh") }),
		"patch that can't be written": decide(func(injector.Request) injector.Decision {
			return injector.Decision{Outcome: injector.Injected, Patch: operations("/x", func() {})}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			handler := testMutator(decider)
			handler.log = slog.New(slog.NewTextHandler(&log, nil))
			recorder := post(handler, envelope(t, ordinaryPod(t), nil))
			if recorder.Code != http.StatusInternalServerError || !strings.Contains(recorder.Body.String(), testUID) {
				t.Errorf("status %d: %s", recorder.Code, recorder.Body)
			}
			if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "error", "InternalError")); n != 1 {
				t.Errorf("counted %v times", n)
			}
			if !strings.Contains(log.String(), "level=ERROR") || strings.Contains(recorder.Body.String(), "goroutine") {
				t.Errorf("not logged: %s", &log)
			}
		})
	}
}

func TestTheLogHoldsNoUID(t *testing.T) {
	var log bytes.Buffer
	handler := testMutator(realInjector(t))
	handler.log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	post(handler, envelope(t, ordinaryPod(t), nil))
	if !strings.Contains(log.String(), `"outcome":"injected"`) || strings.Contains(log.String(), testUID) {
		t.Errorf("log: %s", &log)
	}
}

func TestFitWarnings(t *testing.T) {
	long := strings.Repeat("ä", 200) // two bytes each
	warnings := func(messages []string) (warnings []registration.Warning) {
		for _, message := range messages {
			warnings = append(warnings, registration.Warning{Message: message})
		}
		return warnings
	}
	for name, test := range map[string]struct{ in, want []string }{
		"none":       {nil, nil},
		"as it is":   {[]string{"a b"}, []string{"a b"}},
		"one line":   {[]string{" a\n\tb "}, []string{"a b"}},
		"cut at 256": {[]string{long}, []string{strings.Repeat("ä", 126) + "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fitWarnings(warnings(test.in)); !slices.Equal(got, test.want) {
				t.Errorf("got %q", got)
			}
		})
	}
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf("%d %s", i, long))
	}
	got, total := fitWarnings(warnings(many)), 0
	for _, warning := range got {
		total += len(warning)
	}
	if total > maxWarningTotal || !strings.HasPrefix(got[len(got)-1], "and ") || !strings.HasSuffix(got[len(got)-1], " more warnings") {
		t.Errorf("%d bytes, the last is %q", total, got[len(got)-1])
	}
}

func TestABodyThatEndsEarly(t *testing.T) {
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, MutatePath, io.MultiReader(strings.NewReader("{"), failingReader{}))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	testMutator(realInjector(t)).ServeHTTP(recorder, request)
	if recorder.Code != http.StatusBadRequest || !strings.Contains(recorder.Body.String(), "shorter than announced") {
		t.Errorf("status %d: %s", recorder.Code, recorder.Body)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBodiesOfAnySizeAreReadWhole(t *testing.T) {
	handler := testMutator(realInjector(t))
	for _, size := range []int{1, firstRead - 1, firstRead, firstRead + 1, smallBody - 1, smallBody, smallBody + 1, maxBody} {
		for _, announced := range []int64{int64(size), -1} {
			want := bytes.Repeat([]byte("x"), size)
			request := httptest.NewRequest(http.MethodPost, MutatePath, bytes.NewReader(want))
			request.Header.Set("Content-Type", "application/json")
			request.ContentLength = announced
			body, release, err := handler.readBody(t.Context(), httptest.NewRecorder(), request)
			if err != nil || !bytes.Equal(body, want) {
				t.Errorf("of %d bytes, announced as %d: %d, %v", size, announced, len(body), err)
				continue
			}
			if held := !handler.memory.bodies.TryAcquire(roomForBodies); held != (size > smallBody || size == smallBody && announced < 0) {
				t.Errorf("%d bytes hold room: %t", size, held)
			} else if !held {
				handler.memory.bodies.Release(roomForBodies)
			}
			release()
		}
	}
	request := httptest.NewRequest(http.MethodPost, MutatePath, failingReader{})
	request.Header.Set("Content-Type", "application/json")
	request.ContentLength = maxBody + 1
	if _, _, err := handler.readBody(t.Context(), httptest.NewRecorder(), request); !errors.Is(err, errBodyTooLarge) {
		t.Errorf("announced as too large: %v", err)
	}
}

func TestAnnouncedLengthsTakeNoMemory(t *testing.T) {
	handler := testMutator(realInjector(t))
	before := heap()
	for range 50 {
		request := httptest.NewRequest(http.MethodPost, MutatePath, strings.NewReader("{}"))
		request.Header.Set("Content-Type", "application/json")
		request.ContentLength = maxBody
		handler.ServeHTTP(httptest.NewRecorder(), request)
	}
	if took := heap() - before; took > 50*3*firstRead {
		t.Errorf("50 requests that announced %d bytes took %d of memory", maxBody, took)
	}
}

// heap is the number of bytes allocated so far.
func heap() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}
