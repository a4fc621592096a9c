package grants

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/metrictest"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled))
		var refuses atomic.Bool
		c.fails(func() error {
			if refuses.Load() {
				return errors.New("not now")
			}
			return nil
		})
		g := c.grants()
		problems, err := testutil.CollectAndLint(g)
		if err != nil || len(problems) > 0 {
			t.Errorf("%v, %v", problems, err)
		}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(g)
		families, err := registry.Gather()
		if err != nil || len(families) != len(Metrics()) {
			t.Errorf("%d metrics, %v", len(families), err)
		}
		metrictest.Check(t, families, Metrics())
		expect(t, g, 0, "agentlet_webhook_grant_policy_in_force")
		defer background(t, g.Run)()
		pod := injectedPod(shop, "web", "web")
		c.create(pod)
		c.create(injectedPod(shop, "api", "api"))
		c.want("two accounts", shop, "api web")
		expect(t, g, 1, "agentlet_webhook_grant_policy_in_force")
		expect(t, g, 2, "agentlet_webhook_granted_accounts")
		expect(t, g, 1, `agentlet_webhook_grant_changes_total{change="created"}`)
		expect(t, g, 0, `agentlet_webhook_grant_changes_total{change="deleted"}`)
		refuses.Store(true)
		c.delete(pod)
		time.Sleep(unbindDelay + time.Second)
		if n := testutil.ToFloat64(g.metrics.failures.WithLabelValues(writing)); n < 1 {
			t.Errorf("%v failures", n)
		}
		refuses.Store(false)
		time.Sleep(time.Minute)
		expect(t, g, 1, "agentlet_webhook_granted_accounts")
	})
}

// A watch that the API server refuses is counted, and is retried until the API server allows it.
func TestARefusedWatchIsCounted(t *testing.T) {
	// The handlers delay errors by the time since the last one, which is decades in a synctest bubble.
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	t.Cleanup(func() { utilruntime.ErrorHandlers = handlers })
	synctest.Test(t, func(t *testing.T) {
		for _, resource := range []string{"pods", "namespaces"} {
			c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "web", "web"))
			var allowed atomic.Bool
			c.PrependReactor("list", resource, func(k8stesting.Action) (bool, runtime.Object, error) {
				return !allowed.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: resource}, "", errors.New("no rights"))
			})
			g := c.grants()
			stop := background(t, g.Run)
			c.want(resource+" refused", shop, "none")
			if n := testutil.ToFloat64(g.metrics.failures.WithLabelValues(watching)); n < 1 {
				t.Errorf("%s: %v failures", resource, n)
			}
			allowed.Store(true)
			time.Sleep(time.Minute)
			c.want(resource+" allowed", shop, "web")
			stop()
		}
	})
}

// expect checks one metric, in the exposition format.
func expect(t *testing.T, g prometheus.Collector, value int, metric string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(g)
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if want := metric + " " + strconv.Itoa(value) + "\n"; !strings.Contains(recorder.Body.String(), want) {
		t.Errorf("want %sgot:\n%s", want, recorder.Body)
	}
}
