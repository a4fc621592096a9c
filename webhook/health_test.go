package webhook

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fakeGrants has one metric, and an error that a test sets.
type fakeGrants struct {
	prometheus.Counter
	problem error
}

func (f *fakeGrants) Ready() error { return f.problem }

func TestGrantsArePartOfReadinessAndMetrics(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	for name, test := range map[string]struct {
		problem error
		status  int
		want    string
	}{
		"granting": {nil, 200, "[+] running: ok\n[+] grants: ok\n"},
		"waiting":  {errors.New("policy x does not exist"), 503, "[+] running: ok\n[-] grants: policy x does not exist\n"},
	} {
		counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "grants_of_a_test_total", Help: "Of a test."})
		server := New(Config{
			Certificates: &fakeCertificates{certificate: certificate},
			Grants:       &fakeGrants{counter, test.problem}, Log: slog.New(slog.DiscardHandler),
		})
		recorder := get(server.plain.Handler, ReadyzPath)
		if recorder.Code != test.status || !strings.HasSuffix(recorder.Body.String(), test.want) {
			t.Errorf("%s: %d:\n%s", name, recorder.Code, recorder.Body)
		}
		if metrics := get(server.plain.Handler, MetricsPath).Body.String(); !strings.Contains(metrics, "grants_of_a_test_total 0") {
			t.Errorf("%s: no metric of the grants", name)
		}
	}
}
