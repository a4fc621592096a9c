package agentlet

import (
	"slices"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestProxyIsRegisteredAfterItsServiceAndBeforeReadiness(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, meshPod("9191"))
		after(5 * time.Second)
		if got := w.since(0); !slices.Equal(got, []string{"+" + webID, "+" + proxyID}) {
			t.Fatalf("registered %q, want the service and then its proxy", got)
		}
		if w.inCatalog(webID) != contract.Critical || w.inCatalog(proxyID) != contract.Critical {
			t.Error("not registered as critical before the containers are ready")
		}
		w.expectGate(t, "not ready", gateClosed, contract.ContainersNotReady)
		r.OnUpdate(ready(meshPod("9191"), true))
		after(time.Second)
		w.expectGate(t, "ready", gateOpen, contract.Registered)
		if w.inCatalog(webID) != contract.Passing || w.inCatalog(proxyID) != contract.Passing {
			t.Errorf("the catalog says %q of the service and %q of the proxy, want both passing", w.inCatalog(webID), w.inCatalog(proxyID))
		}
		proxy := w.agent[proxyID].definition
		if proxy.Name != "web-sidecar-proxy" || proxy.Port != contract.ProxyPort || proxy.ProxyFor != webID || proxy.ProxyForName != "web" ||
			!slices.Equal(proxy.Tags, []string{"a"}) || proxy.Meta["team"] != "core" || proxy.Meta[contract.MetaPod] != "web-1" ||
			len(proxy.Proxy.Upstreams) != 1 || len(proxy.Checks) != 1 || proxy.Checks[0].TCP != proxy.Address+":20000" {
			t.Errorf("the proxy is %+v", proxy)
		}
		if service := w.agent[webID].definition; service.ProxyFor != "" || service.Proxy != nil || service.Sidecar != nil || len(service.Checks) > 0 {
			t.Errorf("the service is %+v", service)
		}
	})
}

// TestChangedUpstreamsAreApplied: only the proxy is registered again.
func TestChangedUpstreamsAreApplied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, ready(meshPod("9191"), true))
		after(5 * time.Second)
		r.OnUpdate(ready(meshPod("9292"), true))
		after(time.Second)
		if got := w.since(2); !slices.Equal(got, []string{"+" + proxyID}) {
			t.Errorf("registered again: %q, want the proxy alone", got)
		}
		if got := w.agent[proxyID].definition.Proxy.Upstreams[0].LocalBindPort; got != 9292 {
			t.Errorf("the upstream's port is %d", got)
		}
		r.OnUpdate(ready(structured("{name: web, port: 8080, tags: [a], meta: {team: core}}"), true))
		after(time.Second)
		if _, there := w.agent[proxyID]; there || w.inCatalog(webID) != contract.Passing {
			t.Error("the proxy was not removed alone")
		}
	})
}
