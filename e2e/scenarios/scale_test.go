package scenarios_test

import (
	"context"
	"fmt"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load/scale"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// Work at each size. The rates are low enough for two processors at the largest size; otherwise the figures would measure the
// machine's queue.
const (
	growPerSecond = 50
	rollPerSecond = 3
	rolledPods    = 240
	settle        = 20 * time.Second
	stormPods     = 2000
	outage        = time.Minute
)

// scaleSizes are the numbers of pods.
var scaleSizes = []int{500, 1000, 2000, 5000}

// rareBeats are annotations for all sizes; the largest needs them. With the default TTL of 30s, only the heartbeats of 5,000
// registrars and their agents would fill two processors. In a real cluster they are spread over many machines. A heartbeat causes
// no load on the servers.
var rareBeats = map[string]string{contract.HeartbeatTTL: "5m", contract.DeregisterAfter: "10m"}

// emptyFleet creates a fleet without pods, and closes it when the scenario ends.
func emptyFleet(s *scenario.S, dir string, annotations map[string]string) *scale.Fleet {
	s.Helper()
	// Collect garbage less often: thousands of registrars share this heap, while each one's own heap of a few MiB would seldom be
	// collected.
	usual := debug.SetGCPercent(400)
	s.Cleanup(func() { debug.SetGCPercent(usual) })
	rest, err := s.Cluster.RESTConfig()
	s.Must(err)
	fleet := scale.New(s.Ctx, scale.Config{
		Kube: s.Kube, REST: rest, Namespace: s.Namespace, Consul: s.Cluster.ConsulServers()[0].Path,
		ServerIP: cluster.HostIP, Bridge: s.Cluster.Bridge(), Dir: dir, Annotations: annotations,
	})
	s.Afterwards(3*time.Minute, func(ctx context.Context) {
		if err := fleet.Close(ctx); err != nil {
			s.Errorf("close the fleet: %v", err)
		}
		if err := fleet.ForceLeave(s.Consul); err != nil {
			s.Errorf("make the catalog forget the nodes: %v", err)
		}
	})
	return fleet
}

func TestScale(t *testing.T) {
	s := scenario.New(t, scenario.Bench(), scenario.Label(contract.InjectLabel, ""))
	var fleet *scale.Fleet
	var floor *scale.Floor
	var timeline *observe.Timeline
	var base float64
	measured := map[string]map[int]float64{}
	recordScale := func(name string, size int, value float64, samples int) {
		record(s, fmt.Sprintf("%s_%d", name, size), value, samples)
		if measured[name] == nil {
			measured[name] = map[int]float64{}
		}
		measured[name][size] = value
	}
	s.Given("an empty fleet", func() {
		fleet = emptyFleet(s, t.TempDir(), rareBeats)
		timeline = observe.NewTimeline(nil)
		_, err := timeline.Pods(s.Ctx, s.Kube, s.Namespace, scale.Label)
		s.Must(err)
		base = liveBytes(s)
	})
	for _, size := range scaleSizes {
		s.When(fmt.Sprintf("there are %d pods, of which %d are rolled a second", size, rollPerSecond), func() {
			s.Must(fleet.Grow(s.Ctx, size, growPerSecond))
			awaitAllOpen(s, timeline, fleet)
			s.Pause(settle)
			live, before := liveBytes(s), use(s, fleet.Agents())
			s.Pause(settle)
			idle := use(s, fleet.Agents())
			s.Must(fleet.Roll(s.Ctx, rolledPods, rollPerSecond, nil))
			awaitAllOpen(s, timeline, fleet)
			after := use(s, fleet.Agents())
			quiet := (idle.consul - before.consul).Seconds() / settle.Seconds()
			busy := (after.consul - idle.consul).Seconds() - quiet*after.at.Sub(idle.at).Seconds()
			recordScale("scale_consul_cpu_ms_per_event", size, busy*1000/(2*rolledPods), 2*rolledPods)
			recordScale("scale_kube_mib_per_pod", size, (live-base)/(1<<20)/float64(size), size)
			recordScale("scale_agent_mib_per_pod", size, float64(before.agents)/(1<<20)/float64(size), size)
		})
		s.When(fmt.Sprintf("as many of the %d are rolled again, each followed by a measurement of the floor", size), func() {
			if floor == nil {
				var err error
				floor, err = fleet.NewFloor(s.Ctx, s.Consul)
				s.Must(err)
			}
			known := uids(timeline.Lives())
			began := time.Now()
			var under []float64
			s.Must(fleet.Roll(s.Ctx, rolledPods, rollPerSecond, func(ctx context.Context) error {
				took, err := floor.Measure(ctx)
				under = append(under, took)
				return err
			}))
			took := time.Since(began)
			awaitAllOpen(s, timeline, fleet)
			gates := observe.Spans(livesAfter(timeline, known), observe.ContainersReady, observe.GateOpen)
			s.Logf("%d pods: rolled %d in %s; p50 of gate %.1f ms, of the floor %.1f ms", size, rolledPods, took.Round(time.Second),
				observe.Quantile(gates, 0.5), observe.Quantile(under, 0.5))
			recordScale("scale_gate_ms_p99", size, observe.Quantile(gates, 0.99), len(gates))
			recordScale("scale_floor_ms_p99", size, observe.Quantile(under, 0.99), len(under))
			ratio, err := observe.Ratio(gates, under, 0.99)
			s.Must(err)
			recordScale("scale_gate_over_floor_p99", size, ratio, len(gates))
		})
	}
	s.Then("the growth is known", func() {
		for name, of := range map[string]string{
			"scale_gate_over_floor_growth":         "scale_gate_over_floor_p99",
			"scale_gate_ms_p99_growth":             "scale_gate_ms_p99",
			"scale_floor_ms_p99_growth":            "scale_floor_ms_p99",
			"scale_consul_cpu_ms_per_event_growth": "scale_consul_cpu_ms_per_event",
			"scale_kube_mib_per_pod_growth":        "scale_kube_mib_per_pod",
			"scale_agent_mib_per_pod_growth":       "scale_agent_mib_per_pod",
		} {
			growth, err := observe.Growth(measured[of])
			s.Must(err)
			record(s, name, growth, len(measured[of]))
		}
	})
}

func TestScaleStorm(t *testing.T) {
	s := scenario.New(t, scenario.Bench(), scenario.Label(contract.InjectLabel, ""))
	var fleet *scale.Fleet
	timeline := observe.NewTimeline(nil)
	s.Given(fmt.Sprintf("a fleet of %d pods", stormPods), func() {
		_, err := timeline.Pods(s.Ctx, s.Kube, s.Namespace, scale.Label)
		s.Must(err)
		fleet = emptyFleet(s, t.TempDir(), nil)
		s.Must(fleet.Grow(s.Ctx, stormPods, growPerSecond))
		awaitAllOpen(s, timeline, fleet)
		s.Pause(settle)
	})
	var began time.Time
	var peak func() float64
	s.When("all of them lose their Consul agents at once, and get them back", func() {
		signal := func(sig syscall.Signal) {
			for _, pid := range fleet.Agents() {
				s.Must(syscall.Kill(pid, sig))
			}
		}
		signal(syscall.SIGSTOP)
		s.Pause(outage)
		peak = watchRequests(s)
		began = time.Now()
		signal(syscall.SIGCONT)
	})
	s.Then("every instance is passing again", func() {
		const first = 5 * time.Second // until the agents have synced what they missed
		s.Within(10*time.Minute, "no critical check", func(ctx context.Context) (bool, error) {
			n, err := notPassing(ctx, s)
			return err == nil && n == 0 && time.Since(began) > first, fmt.Errorf("%d checks are critical, %w", n, err)
		})
		record(s, "storm_s", time.Since(began).Seconds(), fleet.Size())
		record(s, "storm_peak_rps", peak(), fleet.Size())
	})
}

// serverUse is the resource use of the servers.
type serverUse struct {
	at     time.Time
	consul time.Duration // CPU time of the Consul server
	agents int64         // anonymous memory of the nodes' Consul agents, in bytes
}

func use(s *scenario.S, agents []int) serverUse {
	s.Helper()
	process := func(p *cluster.Process) scenario.Process {
		pid, running := p.PID()
		if !running {
			s.Fatalf("%s does not run", p.Name)
		}
		return scenario.Process{PID: pid}
	}
	u := serverUse{at: time.Now()}
	var err error
	u.consul, err = process(s.Cluster.ConsulServers()[0]).ProcessorTime()
	s.Must(err)
	for _, pid := range agents {
		bytes, err := scenario.Process{PID: pid}.AnonymousMemory()
		s.Must(err)
		u.agents += bytes
	}
	return u
}

// liveBytes returns the size of the API server's heap and stacks after a garbage collection, which the request for a profile
// triggers.
func liveBytes(s *scenario.S) (live float64) {
	s.Helper()
	get := s.Kube.CoreV1().RESTClient().Get
	_, err := get().AbsPath("/debug/pprof/heap").Param("gc", "1").DoRaw(s.Ctx)
	s.Must(err)
	text, err := get().AbsPath("/metrics").DoRaw(s.Ctx)
	s.Must(err)
	for _, part := range []string{"go_gc_heap_live_bytes", "go_memory_classes_heap_stacks_bytes"} {
		bytes, err := scenario.Sum(text, part, func(map[string]string) bool { return true })
		s.Must(err)
		if bytes == 0 {
			s.Fatalf("the API server's metrics lack %s", part)
		}
		live += bytes
	}
	return live
}

// awaitAllOpen waits until every gate of the fleet is open.
func awaitAllOpen(s *scenario.S, timeline *observe.Timeline, fleet *scale.Fleet) {
	s.Helper()
	s.Eventually("every gate to be open", func(context.Context) (bool, error) {
		open := 0
		for _, life := range timeline.Lives() {
			_, isOpen := life.At[observe.GateOpen]
			if _, deleted := life.At[observe.Deleted]; isOpen && !deleted {
				open++
			}
		}
		return open == fleet.Size(), fmt.Errorf("%d of %d", open, fleet.Size())
	})
}

// notPassing returns the number of critical checks in the catalog.
func notPassing(ctx context.Context, s *scenario.S) (int, error) {
	checks, _, err := s.Consul.Health().State(api.HealthCritical, (&api.QueryOptions{}).WithContext(ctx))
	return len(checks), err
}

// watchRequests samples each second how many requests the Consul server has answered. peak returns the highest number per second.
func watchRequests(s *scenario.S) (peak func() float64) {
	ctx, stop := context.WithCancel(s.Ctx)
	highest := make(chan float64, 1)
	go func() {
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		var most, last float64
		for lastAt := time.Now(); ; {
			select {
			case <-ctx.Done():
				highest <- most
				return
			case <-ticker.C:
			}
			now, err := serverRequests(ctx, s)
			if err != nil {
				continue
			}
			at := time.Now()
			if last > 0 {
				most = max(most, (now-last)/at.Sub(lastAt).Seconds())
			}
			last, lastAt = now, at
		}
	}()
	return func() float64 { stop(); return <-highest }
}

func serverRequests(ctx context.Context, s *scenario.S) (float64, error) {
	text, err := scenario.Get(ctx, "http://"+s.Cluster.ConsulAddr()+"/v1/agent/metrics?format=prometheus")
	if err != nil {
		return 0, err
	}
	return scenario.Sum(text, "consul_rpc_request", func(map[string]string) bool { return true })
}
