package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/e2e/clients"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/figures"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

const (
	// lookEvery is the pace of each client: what it sees is known to that.
	lookEvery = 25 * time.Millisecond
	// lostAfter is how long a client has to look without seeing an address until it has lost it.
	lostAfter = 2 * time.Second
	// seenDrainDelay is longer than any of the clients needs, and seenRounds how often a pod comes and goes for the table.
	seenDrainDelay = 12 * time.Second
	seenRounds     = 10
)

// client is one that follows the scenario's service in its own way, and remembers when it saw which address.
type client struct {
	name string
	// look returns the address that the client would send a request to, or all that it has to choose from.
	look func(ctx context.Context) ([]string, error)

	mu          sync.Mutex
	first, last map[string]time.Time // since forget
	looked      time.Time
	err         error
}

// follow has the client look until the scenario ends.
func (c *client) follow(ctx context.Context) {
	c.forget()
	go func() {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		for ctx.Err() == nil {
			addresses, err := c.look(ctx)
			c.see(addresses, err, time.Now())
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}()
}

func (c *client) see(addresses []string, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = err; err != nil {
		return
	}
	c.looked = now
	for _, address := range addresses {
		if _, seen := c.first[address]; !seen {
			c.first[address] = now
		}
		c.last[address] = now
	}
}

// forget begins anew.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.last = map[string]time.Time{}, map[string]time.Time{}
}

// found is when the client saw the address for the first time.
func (c *client) found(address string) (at time.Time, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, found = c.first[address]
	return at, found, c.err
}

// lost is when the client saw the address for the last time, once it has looked in vain for long enough.
func (c *client) lost(address string) (at time.Time, lost bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at = c.last[address]
	return at, c.looked.Sub(at) > lostAfter, c.err
}

// watched are the clients of a scenario with what they took for each event, in seconds.
type watched struct {
	*scenario.S
	clients []*client
	took    map[string]map[event][]float64
}

// event is what happens to a pod.
type event string

const (
	comes        event = "comes"
	turnsUnready event = "turns unready"
	turnsReady   event = "turns ready again"
	goes         event = "is deleted"
)

// await waits until each client says when, and keeps how long after the beginning that was.
func (w *watched) await(what event, began time.Time, when func(c *client) (time.Time, bool, error)) {
	w.Helper()
	for _, c := range w.clients {
		var at time.Time
		w.Eventually(fmt.Sprintf("%s to see that the pod %s", c.name, what), func(context.Context) (done bool, err error) {
			at, done, err = when(c)
			return done, err
		})
		took := max(0, at.Sub(began))
		if w.took[c.name] == nil {
			w.took[c.name] = map[event][]float64{}
		}
		w.took[c.name][what] = append(w.took[c.name][what], took.Seconds())
		w.Logf("%-12s %6.3f s  %s", what, took.Seconds(), c.name)
	}
}

// forget what the clients have seen: an address that they have lost is to be found anew.
func (w *watched) forget() {
	for _, c := range w.clients {
		c.forget()
	}
}

func (w *watched) awaitFound(what event, began time.Time, address string) {
	w.Helper()
	w.await(what, began, func(c *client) (time.Time, bool, error) { return c.found(address) })
}

func (w *watched) awaitLost(what event, began time.Time, address string) {
	w.Helper()
	w.await(what, began, func(c *client) (time.Time, bool, error) { return c.lost(address) })
}

func TestClientsSeeWhatHappens(t *testing.T) {
	s := scenario.New(t) // it measures
	seeAll(s, 1)
}

func TestClientsSeeWhatHappensTenTimes(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	for name, took := range seeAll(s, seenRounds) {
		cells := []string{name}
		for _, what := range []event{comes, turnsUnready, goes} {
			cells = append(cells, fmt.Sprintf("%.2f s, %.2f s", observe.Quantile(took[what], 0.5), slices.Max(took[what])))
		}
		s.Must(figures.MergeRow(filepath.Join(s.Out, "clients.md"), []string{"client", string(comes), string(turnsUnready), string(goes)}, cells...))
	}
}

// seeAll has pods come and go, one after the other, and all clients watch.
func seeAll(s *scenario.S, rounds int) map[string]map[event][]float64 {
	s.Helper()
	w := &watched{S: s, took: map[string]map[event][]float64{}}
	timeline := observe.NewTimeline(nil)
	template := s.Sample(s.Annotations("drain-delay", seenDrainDelay.String()))
	s.Given("a pod that stays, and clients of its service", func() {
		collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
		s.Must(err)
		scenario.SetEnv(&template, "COLLECTOR", collector)
		stays := *template.DeepCopy()
		stays.Spec.DNSPolicy, stays.Spec.DNSConfig = corev1.DNSNone, &corev1.PodDNSConfig{Nameservers: []string{cluster.HostIP}}
		w.clients = allClients(s, running(s, "stays", stays))
		for _, c := range w.clients {
			c.follow(s.Ctx)
		}
	})
	s.Then("CoreDNS has its clients keep what Consul has nobody keep", func() {
		for port, want := range map[string]uint32{"53": 1, "5353": 5} {
			// Nobody has asked for this kind before, so the answer's time is whole.
			answer := askDNS(s, net.JoinHostPort(cluster.HostIP, port), s.Service()+".service.consul.", dns.TypeSRV, dns.DefaultMsgSize)
			if len(answer.Answer) != 1 || answer.Answer[0].Header().Ttl != want {
				s.Errorf("at port %s: %v, want a TTL of %d s", port, answer.Answer, want)
			}
		}
	})
	for round := range rounds {
		var pod *corev1.Pod
		turns := readinessTurns(s, fmt.Sprintf("moves-%d", round))
		s.When("a pod comes", func() {
			w.forget()
			_, err := s.CreatePod(fmt.Sprintf("moves-%d", round), template)
			s.Must(err)
		})
		s.Then("all clients find it", func() {
			began := await(s, turns, true)
			pod = s.AwaitReady(fmt.Sprintf("moves-%d", round))
			w.awaitFound(comes, began, pod.Status.PodIP)
		})
		s.When("it turns unready", func() { s.Must(put(s, pod, "/unready")) })
		s.Then("all clients leave it alone", func() {
			began := await(s, turns, false)
			w.awaitLost(turnsUnready, began, pod.Status.PodIP)
		})
		s.When("it turns ready again", func() {
			w.forget()
			s.Must(put(s, pod, "/ready"))
		})
		s.Then("all clients find it again", func() {
			began := await(s, turns, true)
			w.awaitFound(turnsReady, began, pod.Status.PodIP)
		})
		began := time.Now()
		s.When("it is deleted", func() { s.Delete(pod.Name) })
		s.Then("all clients have left it before its SIGTERM, which drain-delay put off", func() {
			w.awaitLost(goes, began, pod.Status.PodIP)
			s.Eventually("SIGTERM", func(context.Context) (bool, error) { return !sigterm(timeline, pod).IsZero(), nil })
			for _, c := range w.clients {
				if last, _, _ := c.lost(pod.Status.PodIP); last.After(sigterm(timeline, pod)) {
					s.Errorf("%s was sent there %s after SIGTERM", c.name, last.Sub(sigterm(timeline, pod)))
				}
			}
		})
	}
	return w.took
}

// sigterm is when the application got it; zero before.
func sigterm(timeline *observe.Timeline, pod *corev1.Pod) time.Time {
	for _, life := range timeline.Lives() {
		if life.UID == string(pod.UID) {
			return life.At[observe.Terminated]
		}
	}
	return time.Time{}
}

// allClients are those that docs/clients.md compares. Some of them ask from within the pod.
func allClients(s *scenario.S, pod *corev1.Pod) []*client {
	s.Helper()
	agent := s.Cluster.Nodes[0]
	agentDNS := net.JoinHostPort(agent.IP, consulDNS)
	coredns, err := clients.CoreDNS(s.Ctx, s.TempDir(), cluster.HostIP, agentDNS)
	s.Must(err)
	rendered, err := clients.Rendered(s.Ctx, s.TempDir(), agent.ConsulAddr(), s.Service())
	s.Must(err)
	resolving, err := clients.Resolving(s.Ctx, s.TempDir(), agentDNS, s.Service())
	s.Must(err)
	for _, stop := range []func() error{coredns.Stop, rendered.Stop, resolving.Stop} {
		s.Cleanup(func() {
			if err := stop(); err != nil {
				s.Error(err)
			}
		})
	}
	atAgent, err := cluster.ConsulClient(agent.ConsulAddr())
	s.Must(err)
	name := s.Service() + ".service.consul."
	return []*client{
		{name: "blocking query, a Consul server", look: instancesOf(s, load.New(s.Consul, s.Service()))},
		{name: "blocking query, a node's agent", look: instancesOf(s, load.New(atAgent, s.Service()))},
		{name: "DNS, a Consul server, from outside", look: func(ctx context.Context) ([]string, error) { return addressesBehind(ctx, name) }},
		{name: "DNS, the node's agent, from a pod", look: lookUpIn(pod, name, net.JoinHostPort(pod.Status.HostIP, consulDNS))},
		{name: "DNS, CoreDNS with `cache 1`, from a pod", look: lookUpIn(pod, name, "")},
		{name: "DNS, CoreDNS with `cache`, from a pod", look: lookUpIn(pod, name, net.JoinHostPort(cluster.HostIP, "5353"))},
		{name: "nginx, upstreams by consul-template", look: sentBy(rendered)},
		{name: "nginx, `resolver … valid=1s`", look: sentBy(resolving)},
	}
}

// instancesOf is what a blocking query has told last.
func instancesOf(s *scenario.S, c *load.Client) func(context.Context) ([]string, error) {
	s.Must(c.Follow(s.Ctx))
	return func(context.Context) ([]string, error) {
		var hosts []string
		for _, instance := range c.Instances() {
			host, _, err := net.SplitHostPort(instance)
			if err != nil {
				return nil, err
			}
			hosts = append(hosts, host)
		}
		return hosts, nil
	}
}

// lookUpIn looks a name up from within a pod of the sample, at a name server, or the one of the pod's resolver.
func lookUpIn(pod *corev1.Pod, name, server string) func(context.Context) ([]string, error) {
	query := url.Values{"name": {name}, "server": {server}}
	return func(ctx context.Context) (addresses []string, err error) {
		response, err := get(ctx, "http://"+pod.Status.PodIP+":8080/lookup?"+query.Encode())
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			text, err := io.ReadAll(response.Body)
			return nil, fmt.Errorf("%s: %s, %w", response.Status, text, err)
		}
		err = json.NewDecoder(response.Body).Decode(&addresses)
		return addresses, err
	}
}

// sentBy is whom nginx sends a request to.
func sentBy(nginx *clients.Nginx) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		response, err := get(ctx, "http://"+nginx.Address+"/")
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body) // the connection is used again
		host, _, err := net.SplitHostPort(response.Header.Get("Upstream"))
		return []string{host}, err
	}
}

func get(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(request)
}
