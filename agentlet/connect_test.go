package agentlet

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var proxyID = contract.ProxyID("shop", "web-1", testUID, "web")

// meshPod is a pod whose service has a proxy, with an upstream at this port.
func meshPod(upstream string) *corev1.Pod {
	pod := testPod("services", `[{name: web, port: 8080, tags: [a], meta: {team: core}, connect: {sidecar_service: {proxy: {upstreams: [`+
		`{destination_name: db, local_bind_port: `+upstream+`}]}}}}]`)
	delete(pod.Annotations, contract.ServiceNames)
	delete(pod.Annotations, contract.ServicePort)
	return pod
}

// since are the registrations and removals after the first ones, in their order.
func (w *world) since(first int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order[min(first, len(w.order)):])
}

func TestProxyComesAfterItsServiceAndBeforeReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(meshPod("9191"))
		after(5 * time.Second)
		if got := w.since(0); !slices.Equal(got, []string{"+" + webID, "+" + proxyID}) {
			t.Fatalf("registered %q, want the service and then its proxy", got)
		}
		if w.inCatalog(webID) != contract.Critical || w.inCatalog(proxyID) != contract.Critical {
			t.Error("not registered as critical before the containers are ready")
		}
		if got := w.last(); got.Reason != string(contract.ContainersNotReady) {
			t.Errorf("the gate says %s", got.Reason)
		}
		r.OnUpdate(ready(meshPod("9191"), true))
		after(time.Second)
		if w.inCatalog(webID) != contract.Passing || w.inCatalog(proxyID) != contract.Passing || w.last().Reason != string(contract.Registered) {
			t.Errorf("service %s, proxy %s, gate %s", w.inCatalog(webID), w.inCatalog(proxyID), w.last().Reason)
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

func TestProxyLeavesBeforeItsService(t *testing.T) {
	for name, c := range map[string]struct {
		fail  error         // of the first removal of the proxy
		slow  time.Duration // what a removal takes
		first []string      // what is out after one and a half
		want  []string
	}{
		"one after the other":              {nil, time.Second, []string{"-" + proxyID}, []string{"-" + proxyID, "-" + webID}},
		"not held up by one that stays":    {errors.New("500"), time.Second, nil, []string{"-" + webID, "-" + proxyID}},
		"nor for long by one that is slow": {nil, 4 * time.Second, []string{"-" + proxyID, "-" + webID}, []string{"-" + proxyID, "-" + webID}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := w.start(t)
				r.OnUpdate(ready(meshPod("9191"), true))
				after(5 * time.Second)
				w.slow = map[string]time.Duration{"deregister": c.slow}
				var failed atomic.Bool
				w.setFail(func(call string) error {
					if call != "deregister" || failed.Swap(true) {
						return nil
					}
					return c.fail
				})
				r.OnUpdate(deleted(ready(meshPod("9191"), true)))
				after(c.slow * 3 / 2)
				if got := w.since(2); !slices.Equal(got, c.first) {
					t.Errorf("first %q is removed, want %q", got, c.first)
				}
				after(20 * time.Second)
				if got := w.since(2); !slices.Equal(got, c.want) {
					t.Errorf("removed %q, want %q", got, c.want)
				}
				if w.inCatalog(webID) != "" || w.inCatalog(proxyID) != "" {
					t.Error("the catalog still has them")
				}
			})
		})
	}
}

func TestGateWaitsForTheProxysOwnCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.proxyOwn = contract.Critical
		r, _ := w.start(t)
		r.OnUpdate(ready(meshPod("9191"), true))
		after(time.Minute)
		if got := w.last(); got.Reason != string(contract.AwaitingCatalog) {
			t.Fatalf("the gate says %s while the proxy does not listen", got.Reason)
		}
		w.set(func() { w.proxyOwn = contract.Passing })
		after(time.Second)
		if got := w.last(); got.Reason != string(contract.Registered) {
			t.Errorf("the gate says %s %q", got.Reason, got.Message)
		}
	})
}

// TestUpstreamsAreFollowedLive has the proxy alone registered anew.
func TestUpstreamsAreFollowedLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(ready(meshPod("9191"), true))
		after(5 * time.Second)
		r.OnUpdate(ready(meshPod("9292"), true))
		after(time.Second)
		if got := w.since(2); !slices.Equal(got, []string{"+" + proxyID}) {
			t.Errorf("registered anew: %q, want the proxy alone", got)
		}
		if got := w.agent[proxyID].definition.Proxy.Upstreams[0].LocalBindPort; got != 9292 {
			t.Errorf("the upstream's port is %d", got)
		}
		alone := meshPod("9292")
		alone.Annotations[contract.Services] = "[{name: web, port: 8080, tags: [a], meta: {team: core}}]"
		r.OnUpdate(ready(alone, true))
		after(time.Second)
		if _, there := w.agent[proxyID]; there || w.inCatalog(webID) != contract.Passing {
			t.Error("the service did not leave the mesh alone")
		}
	})
}
