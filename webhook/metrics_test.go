package webhook

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/agentlet/agentlet/internal/metrictest"
)

func TestMetricsAreAsDeclared(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	health := &health{certificates: &fakeCertificates{certificate: certificate}}
	m := newMetrics(health, newLimiters(), "test")
	m.observe(validating, result{outcome: accepted, reason: reasonValid}, time.Millisecond)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var own []*dto.MetricFamily
	for _, family := range all {
		if strings.HasPrefix(family.GetName(), "agentlet_") {
			own = append(own, family)
		}
	}
	if len(own) != len(Metrics()) {
		t.Errorf("%d metrics are served, %d declared", len(own), len(Metrics()))
	}
	metrictest.Check(t, own, Metrics())
}

func TestReadyIsAMetric(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	server := New(Config{Certificates: &fakeCertificates{certificate: certificate}, Log: slog.New(slog.DiscardHandler)})
	for _, stopping := range []bool{false, true} {
		server.health.stopping.Store(stopping)
		want := "agentlet_webhook_ready 1\n"
		if stopping {
			want = "agentlet_webhook_ready 0\n"
		}
		if text := get(server.plain.Handler, MetricsPath).Body.String(); !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// stuck is a client that reads the first bytes of its answer, and no more until it is closed.
type stuck struct {
	http.ResponseWriter
	writing chan<- struct{}
	closed  <-chan struct{}
}

func (s stuck) Write(content []byte) (int, error) {
	if len(content) <= 10 { // the header of compressed data
		return len(content), nil
	}
	s.writing <- struct{}{}
	<-s.closed
	return 0, io.ErrClosedPipe
}

// TestSlowScrapes: clients that don't read their metrics hold little more memory than those, and don't delay others.
func TestSlowScrapes(t *testing.T) {
	const readers, each = 50, 64 << 10
	handler := testMutator(realInjector(t)).metrics.handler()
	scrape := func(w http.ResponseWriter) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, MetricsPath, nil)
		request.Header.Set("Accept-Encoding", "gzip")
		handler.ServeHTTP(w, request)
	}
	scrape(httptest.NewRecorder())
	before := heldMemory()
	writing, closed := make(chan struct{}, readers), make(chan struct{})
	var group sync.WaitGroup
	for range readers {
		group.Go(func() { scrape(stuck{httptest.NewRecorder(), writing, closed}) })
	}
	for range readers {
		<-writing
	}
	if now := heldMemory(); now > before+readers*each {
		t.Errorf("each holds %d KiB", (now-before)/readers>>10)
	}
	recorder := httptest.NewRecorder()
	scrape(recorder)
	if recorder.Code != http.StatusOK || recorder.Body.Len() == 0 {
		t.Errorf("another scrape: %d, %d bytes", recorder.Code, recorder.Body.Len())
	}
	close(closed)
	group.Wait()
}

// stopped is a collector that waits.
type stopped struct{ entered, release chan struct{} }

func (stopped) Describe(chan<- *prometheus.Desc) {}

func (s stopped) Collect(chan<- prometheus.Metric) {
	s.entered <- struct{}{}
	<-s.release
}

// TestAbortedScrapes: metrics are not gathered for a scrape whose connection has been closed.
func TestAbortedScrapes(t *testing.T) {
	m := testMutator(realInjector(t)).metrics
	collector := stopped{make(chan struct{}, 10), make(chan struct{})}
	m.registry.MustRegister(collector)
	handler := m.handler()
	scrape := func(ctx context.Context) {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, MetricsPath, nil))
	}
	var group sync.WaitGroup
	group.Go(func() { scrape(t.Context()) })
	<-collector.entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan struct{})
	group.Go(func() { scrape(ctx); close(ended) })
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("it waits for the first")
	}
	close(collector.release)
	group.Wait()
	if n := len(collector.entered); n > 0 {
		t.Errorf("%d more were gathered", n)
	}
}
