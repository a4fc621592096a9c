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

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/programs/clients"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

const (
	// lookEvery is each client's polling interval, and so the resolution of its times.
	lookEvery = 25 * time.Millisecond
	// lostAfter is how long a client must not see an address before it counts as lost.
	lostAfter = 2 * time.Second
	// seenDrainDelay is longer than the slowest client needs. seenRounds is how often a pod starts and ends for the table.
	seenDrainDelay = 12 * time.Second
	seenRounds     = 10
)

// client follows the scenario's service in its own way, and records when it saw each address.
type client struct {
	name string
	// look returns the address to which the client would send a request, or all addresses among which it would choose.
	look func(ctx context.Context) ([]string, error)

	mu          sync.Mutex
	first, last map[string]time.Time // since forget
	looked      time.Time
	err         error
}

// follow calls look until the scenario ends.
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

// forget clears the recorded times.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.first, c.last = map[string]time.Time{}, map[string]time.Time{}
}

// found returns when the client saw the address first.
func (c *client) found(address string) (at time.Time, found bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, found = c.first[address]
	return at, found, c.err
}

// lost returns when the client saw the address last, once it has not seen it for lostAfter.
func (c *client) lost(address string) (at time.Time, lost bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at = c.last[address]
	return at, c.looked.Sub(at) > lostAfter, c.err
}

// watched are the clients of a scenario with their times for each event, in seconds.
type watched struct {
	*scenario.S
	clients []*client
	took    map[string]map[event][]float64
}

// event is an event in a pod's life.
type event string

const (
	comes        event = "comes"
	turnsUnready event = "turns unready"
	turnsReady   event = "turns ready again"
	goes         event = "is deleted"
)

// await waits until when returns a time for each client, and records the time since the beginning.
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

// forget clears what the clients have seen, so that lost addresses can be found again.
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
	s := scenario.New(t) // alone, because it measures
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

// seeAll creates and deletes pods, one after the other, while all clients watch.
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
	s.Then("CoreDNS sets a TTL on Consul's answers, which have a TTL of 0", func() {
		for port, want := range map[string]uint32{"53": 1, "5353": 5} {
			// Query a record type that was not queried before, so that the answer has its whole TTL.
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
		s.Then("all clients stop using it", func() {
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
		s.Then("all clients have stopped using it before its SIGTERM, which drain-delay has delayed", func() {
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

// sigterm returns when the application received SIGTERM, or the zero time.
func sigterm(timeline *observe.Timeline, pod *corev1.Pod) time.Time {
	for _, life := range timeline.Lives() {
		if life.UID == string(pod.UID) {
			return life.At[observe.Terminated]
		}
	}
	return time.Time{}
}

// allClients returns the clients that docs/clients.md compares. Some of them send their queries from within the pod.
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

// instancesOf returns the last result of a blocking query.
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

// lookUpIn resolves a name from within a pod of the sample, with a given name server, or with the pod's resolver.
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

// sentBy returns the instance to which nginx sends a request.
func sentBy(nginx *clients.Nginx) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		response, err := get(ctx, "http://"+nginx.Address+"/")
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is reused
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
