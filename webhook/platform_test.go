package webhook

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/agentlet/agentlet/injector"
)

// fakePlatform is ready unless it has a problem.
type fakePlatform struct{ problem error }

func (f *fakePlatform) Ready() error { return f.problem }

func TestAnUnknownPlatformIsLeftToFailurePolicy(t *testing.T) {
	decider := decide(func(injector.Request) injector.Decision {
		t.Error("decided on an unknown platform")
		return injector.Decision{}
	})
	platform := &fakePlatform{errors.New("who assigns users is not known yet")}
	reviewer := podReviewer{decider, platform, nil}
	for kind, test := range map[kind]struct {
		handler *handler
		body    []byte
	}{
		mutating:   {testHandler(&pods{reviewer}, mutating), envelope(t, ordinaryPod(t), nil)},
		validating: {testHandler(&workloads{reviewer}, validating), workloadReview(t, deployment(annotate("service-names", "pay")), nil)},
	} {
		recorder := post(test.handler, test.body)
		if recorder.Code != http.StatusInternalServerError || !strings.Contains(recorder.Body.String(), "who assigns users is not known yet") {
			t.Errorf("%s: status %d: %s", kind, recorder.Code, recorder.Body)
		}
		if n := testutil.ToFloat64(test.handler.metrics.admissions.WithLabelValues(string(kind), "error", "PlatformUnknown")); n != 1 {
			t.Errorf("%s: counted %v times", kind, n)
		}
	}
	handler := testHandler(&pods{podReviewer{realInjector(t), &fakePlatform{}, nil}}, mutating)
	if response := answerOf(t, post(handler, envelope(t, ordinaryPod(t), nil))); !response.Allowed || len(response.Patch) == 0 {
		t.Errorf("on a known one: %+v", response)
	}
}

func TestThePlatformIsPartOfReadiness(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	for want, problem := range map[string]error{
		"[+] running: ok\n[+] platform: ok\n":        nil,
		"[+] running: ok\n[-] platform: not known\n": errors.New("not known"),
	} {
		server := New(Config{
			Certificates: &fakeCertificates{certificate: certificate}, Platform: &fakePlatform{problem}, Log: slog.New(slog.DiscardHandler),
		})
		recorder := get(server.plain.Handler, ReadyzPath)
		if (recorder.Code == 200) != (problem == nil) || !strings.HasSuffix(recorder.Body.String(), want) {
			t.Errorf("%d:\n%s", recorder.Code, recorder.Body)
		}
	}
}
