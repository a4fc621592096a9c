package webhook

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
)

// fakeNamespaces has the same annotations and labels for each namespace.
type fakeNamespaces struct {
	annotations, labels map[string]string
	problem             error
	// untold: Get knows no namespace. Ask calls asked, which may be nil.
	untold bool
	asked  func()
}

func (f *fakeNamespaces) namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Annotations: f.annotations, Labels: f.labels}}
}

func (f *fakeNamespaces) Get(namespace string) (*corev1.Namespace, bool) {
	return f.namespace(), f.problem == nil && !f.untold && namespace == "shop"
}

func (f *fakeNamespaces) Ask(_ context.Context, namespace string) (*corev1.Namespace, error) {
	if f.asked != nil {
		f.asked()
	}
	if namespace != "shop" {
		return nil, errors.New("asked for " + namespace)
	}
	if f.problem != nil {
		return nil, f.problem
	}
	return f.namespace(), nil
}

func (f *fakeNamespaces) Ready() error { return f.problem }

func TestTheNamespacesAnnotationsReachTheInjector(t *testing.T) {
	only := map[string]string{contract.AllowedServices: "pay"}
	labels := map[string]string{"istio-injection": "enabled"}
	for name, annotations := range map[string]map[string]string{"nothing": nil, "a word": only} {
		var asked *injector.Request
		handler := testPods(decide(func(request injector.Request) injector.Decision {
			asked = &request
			return injector.Decision{Outcome: injector.Skipped, Reason: injector.ReasonNotAnnotated}
		}), &fakeNamespaces{annotations: annotations, labels: labels})
		answerOf(t, post(handler, envelope(t, ordinaryPod(t), nil)))
		if asked == nil || !maps.Equal(asked.NamespaceAnnotations, annotations) || !maps.Equal(asked.NamespaceLabels, labels) {
			t.Errorf("%s: asked %+v", name, asked)
		}
	}
	handler := testPods(realInjector(t), &fakeNamespaces{annotations: only})
	response := answerOf(t, post(handler, envelope(t, ordinaryPod(t), nil)))
	if response.Allowed || !strings.Contains(response.Result.Message, "only pay (annotation agentlet.dev/allowed-services of namespace shop)") {
		t.Errorf("allowed %t: %+v", response.Allowed, response.Result)
	}
	if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "denied", "ServiceNotAllowed")); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

// A default of the namespace that no pod could have stops no pod, and is a warning beside the patch.
func TestAWrongDefaultOfTheNamespaceStopsNoPod(t *testing.T) {
	annotations := map[string]string{contract.Readiness: "kubelt", contract.DrainDelay: "9s"}
	response := answerOf(t, post(testPods(realInjector(t), &fakeNamespaces{annotations: annotations}), envelope(t, ordinaryPod(t), nil)))
	const want = `namespace "shop": annotation agentlet.dev/readiness: "kubelt" has no effect: must be start, kubelet or probe`
	if !response.Allowed || !slices.Contains(response.Warnings, want) || !bytes.Contains(response.Patch, []byte(`"--default=agentlet.dev/drain-delay=9s"`)) {
		t.Errorf("allowed %t with the warnings %q: %s", response.Allowed, response.Warnings, response.Patch)
	}
}

// A review that waits for a namespace holds no room meanwhile.
func TestNoRoomIsHeldWhileTheNamespaceIsFetched(t *testing.T) {
	asked := 0
	namespaces := &fakeNamespaces{annotations: map[string]string{contract.AllowedServices: "web"}, untold: true}
	handler := testPods(realInjector(t), namespaces)
	namespaces.asked = func() {
		if asked++; !handler.memory.reviews.TryAcquire(roomForReviews) {
			t.Fatal("the review holds room")
		}
		handler.memory.reviews.Release(roomForReviews)
	}
	response := answerOf(t, post(handler, envelope(t, ordinaryPod(t), nil)))
	if response.Allowed || !strings.Contains(response.Result.Message, `service "web-admin": pods of this namespace may register only web`) || asked != 1 {
		t.Errorf("asked %d times: %+v", asked, response.Result)
	}
	response = answerOf(t, post(testWorkloads(realInjector(t), namespaces), workloadReview(t, deployment(annotate("service-names", "pay")), nil)))
	if response.Allowed || asked != 2 {
		t.Errorf("a workload: asked %d times: %+v", asked, response.Result)
	}
}

func TestAnUnknownNamespaceIsLeftToFailurePolicy(t *testing.T) {
	handler := testPods(decide(func(injector.Request) injector.Decision {
		t.Error("decided without the namespace's word")
		return injector.Decision{}
	}), &fakeNamespaces{problem: errors.New("namespaces are not read yet")})
	recorder := post(handler, envelope(t, ordinaryPod(t), nil))
	if recorder.Code != http.StatusInternalServerError || !strings.Contains(recorder.Body.String(), "not read yet") {
		t.Errorf("status %d: %s", recorder.Code, recorder.Body)
	}
	if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("mutating", "error", "NamespaceUnknown")); n != 1 {
		t.Errorf("counted %v times", n)
	}
}

func TestNamespacesArePartOfReadiness(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	for want, problem := range map[string]error{
		"[+] running: ok\n[+] namespaces: ok\n":           nil,
		"[+] running: ok\n[-] namespaces: not read yet\n": errors.New("not read yet"),
	} {
		server := New(Config{
			Certificates: &fakeCertificates{certificate: certificate},
			Namespaces:   &fakeNamespaces{problem: problem}, Log: slog.New(slog.DiscardHandler),
		})
		recorder := get(server.plain.Handler, ReadyzPath)
		if (recorder.Code == 200) != (problem == nil) || !strings.HasSuffix(recorder.Body.String(), want) {
			t.Errorf("%d:\n%s", recorder.Code, recorder.Body)
		}
	}
}
