package agentlet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// play is a pod's life under a script of faults: whatever happens, after the faults the catalog agrees with the pod's
// readiness, the gate is right, and nothing of others was touched.
type play struct {
	*consulModel
	mu         sync.Mutex
	delivering sync.Mutex              // a watch delivers one version of the pod after the other
	pod        *corev1.Pod             // as the API server has it
	away       bool                    // the API server
	failCalls  func(call string) error // as w.fail, by the script

	registrar     *Registrar
	end           func() // of the registrar
	open          bool   // the gate, as last written
	version       int    // of the pod
	versionPrefix string // of the resource versions; versions with letters cannot be compared
	taken         int    // version in which somebody has taken the condition away
	queue         []*corev1.Pod
	watchDelay    time.Duration // from a change of the pod until the registrar gets it
	answerDelay   time.Duration // from a write of the condition until the registrar has its answer
	deliveries    []delivery
	second        time.Time
	calls         map[string]int // in this second
}

// delivery is a version of the pod that a registrar got, and when.
type delivery struct {
	pod *corev1.Pod
	// reg is of the last valid annotations that this registrar got; nil: none yet.
	reg *registration.Registration
	at  time.Time
}

// step of a script: an event, and how long to wait after it.
type step struct {
	event happening
	pause time.Duration
}

type happening struct {
	name string
	do   func(p *play)
}

// hurried is how many calls of a kind in one second are too many, whatever happens.
const hurried = 100

var errOther = errors.New("500 rpc error")

// scripted are the events of scripts. Their order is what fuzzing's corpus means by its bytes.
func scripted() []happening {
	annotate := func(pairs ...string) func(*play) {
		return func(p *play) {
			p.change(func(pod *corev1.Pod) { pod.Annotations = withLocalAPI(pairs...).Annotations })
		}
	}
	fail := func(err error, calls ...string) func(*play) {
		return func(p *play) { p.update(func() { p.failCalls = failing(err, calls...) }) }
	}
	restart := func(lose bool) func(*play) {
		return func(p *play) { p.stop(); time.Sleep(3 * time.Second); p.start(lose) }
	}
	return []happening{
		{"nothing", func(*play) {}},
		{"ready", func(p *play) { p.change(func(pod *corev1.Pod) { *pod = *ready(pod, true) }) }},
		{"unready", func(p *play) { p.change(func(pod *corev1.Pod) { *pod = *ready(pod, false) }) }},
		{"tags a", annotate("service-tags", "a")},
		{"tags b", annotate("service-tags", "b")},
		{"two services", annotate("service-names", "web,admin")},
		{"another service", annotate("service-names", "admin")},
		{"invalid annotations", annotate("heartbeat-ttl", "soon")},
		{"agent down", (*play).stop},
		{"agent back", func(p *play) { p.start(false) }},
		{"agent restarts", restart(false)},
		{"agent restarts without its data", restart(true)},
		{"agent hangs", func(p *play) { p.update(func() { p.failCalls = failingConsul(context.DeadlineExceeded) }) }},
		{"agent answers 500", func(p *play) { p.update(func() { p.failCalls = failingConsul(errOther) }) }},
		{"registrations fail", fail(errOther, "register")},
		{"registrations are rejected", fail(ErrRejected, "register")},
		{"heartbeats fail", fail(errOther, "heartbeat", "readiness")},
		{"reads of the catalog fail", fail(errOther, "catalog")},
		{"listing services fails", fail(errOther, "instances")},
		{"watching fails", fail(ErrUnreachable, "changed")},
		{"gate patches fail", fail(errOther, "gate")},
		{"calls work", func(p *play) { p.update(func() { p.failCalls = nil }) }},
		{"leader lost", func(p *play) { p.locked(func() { p.leader = false }) }},
		{"leader back", func(p *play) { p.locked(func() { p.leader = true }) }},
		{"syncs fail", func(p *play) { p.locked(func() { p.syncing = false }) }},
		{"syncs work", func(p *play) { p.locked(func() { p.syncing = true }) }},
		{"API server unreachable", func(p *play) { p.update(func() { p.away = true }) }},
		{"API server back", func(p *play) { p.update(func() { p.away = false }); p.deliver() }},
		{"somebody deregisters it", func(p *play) { p.meddle(webID, func() { delete(p.agent, webID) }) }},
		{"somebody edits it", func(p *play) { p.edit(edited) }},
		{"somebody removes a check", func(p *play) { p.edit(func(e *agentEntry) { e.removeCheck("readiness") }) }},
		{"the catalog loses it", func(p *play) {
			p.lose(webID)
			time.AfterFunc(time.Minute, p.syncAll) // that is not the registrar's to heal
		}},
		{"a leftover appears", func(p *play) {
			id := testIdentity.Prefix() + "_leftover"
			p.meddle(id, func() {
				p.agent[id] = p.held(Definition{ID: id, HeartbeatTTL: 30 * time.Second, DeregisterAfter: 2 * time.Minute})
				p.heartbeatAt[id] = time.Now()
			})
		}},
		{"agentlet killed", func(p *play) { p.end(); time.Sleep(time.Second); p.begin() }},
		{"slow registrations", func(p *play) {
			p.locked(func() { p.slow = map[string]time.Duration{"register": 700 * time.Millisecond} })
		}},
		{"quick registrations", func(p *play) { p.locked(func() { p.slow = nil }) }},
		{"somebody removes the gate's condition", func(p *play) {
			p.change(func(pod *corev1.Pod) {
				pod.Status.Conditions, p.open, p.taken = nil, false, p.version
			})
		}},
		{"the continuous policy", annotate("gate-policy", "continuous")},
		{"syncs take long", func(p *play) { p.locked(func() { p.syncDelay = 15 * time.Second }) }},
		{"syncs take no time", func(p *play) { p.locked(func() { p.syncDelay = 0 }) }},
		{"the application requests maintenance", func(p *play) { p.override(maintain("compaction")) }},
		{"the application resumes", func(p *play) { p.override(resume()) }},
		{"changes of the pod are delivered late", func(p *play) { p.update(func() { p.watchDelay = 30 * time.Millisecond }) }},
		{"answers to patches are late", func(p *play) { p.update(func() { p.answerDelay = 30 * time.Millisecond }) }},
		{"deliveries and answers are as usual", func(p *play) { p.update(p.usualDelays) }},
		{"somebody closes the gate", func(p *play) {
			p.change(func(pod *corev1.Pod) {
				pod.Status.Conditions, p.open, p.taken = []corev1.PodCondition{foreign()}, false, p.version
			})
		}},
		{"opted out", annotate("inject", "false")},
	}
}

func pauses() []time.Duration {
	return []time.Duration{0, time.Millisecond, 7 * time.Millisecond, 100 * time.Millisecond, time.Second, 4 * time.Second, 20 * time.Second, 50 * time.Second, 3 * time.Minute}
}

// script out of bytes: two for each step.
func script(bytes []byte) []step {
	events, pauses := scripted(), pauses()
	var steps []step
	for i := 0; i+1 < len(bytes); i += 2 {
		steps = append(steps, step{events[int(bytes[i])%len(events)], pauses[int(bytes[i+1])%len(pauses)]})
	}
	return steps
}

func describeSteps(steps []step) string {
	var lines []string
	for _, s := range steps {
		lines = append(lines, fmt.Sprintf("  %-34s then %s", s.event.name, s.pause))
	}
	return strings.Join(lines, "\n")
}

// now is the pod as the API server has it; nobody changes it.
func (p *play) now() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pod
}

// update changes what the registrar's calls meet.
func (p *play) update(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *play) edit(change func(*agentEntry)) {
	p.meddle(webID, func() {
		if e, there := p.agent[webID]; there {
			change(&e)
			p.agent[webID] = e
		}
	})
}

func (p *play) usualDelays() { p.watchDelay, p.answerDelay = 5*time.Millisecond, 0 }

// change the pod at the API server, which delivers it a while later. It returns the version that the pod has then.
func (p *play) change(change func(*corev1.Pod)) (version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version++
	pod := p.pod.DeepCopy()
	change(pod)
	pod.ResourceVersion = p.versionPrefix + strconv.Itoa(p.version)
	p.pod, p.queue = pod, append(p.queue, pod)
	time.AfterFunc(p.watchDelay, p.deliverNext)
	return pod.ResourceVersion
}

// deliverNext delivers the oldest version that was not delivered, as a watch does.
func (p *play) deliverNext() {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	p.mu.Lock()
	var pod *corev1.Pod
	if len(p.queue) > 0 {
		pod, p.queue = p.queue[0], p.queue[1:]
	}
	p.mu.Unlock()
	if pod != nil {
		p.deliverOne(pod)
	}
}

// deliver delivers the pod as it is now, as a list does.
func (p *play) deliver() {
	p.delivering.Lock()
	defer p.delivering.Unlock()
	p.mu.Lock()
	pod := p.pod
	p.queue = nil
	p.mu.Unlock()
	p.deliverOne(pod)
}

func (p *play) deliverOne(pod *corev1.Pod) {
	p.mu.Lock()
	pod = pod.DeepCopy()
	away, registrar := p.away, p.registrar
	if !away {
		d := delivery{pod: pod.DeepCopy(), at: time.Now()}
		if reg, errs := registration.Parse(pod, nil); len(errs) == 0 {
			d.reg = reg
		} else if len(p.deliveries) > 0 {
			d.reg = p.deliveries[len(p.deliveries)-1].reg
		}
		p.deliveries = append(p.deliveries, d)
	}
	p.mu.Unlock()
	if !away {
		registrar.OnUpdate(pod)
	}
}

// current deliveries: the one in force, and those of this very moment, which may not have been followed yet.
func (p *play) current() []delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := len(p.deliveries) - 1
	for from > 0 && p.deliveries[from].at.Equal(time.Now()) {
		from--
	}
	return slices.Clone(p.deliveries[max(from, 0):])
}

// begin a registrar's process.
func (p *play) begin() {
	r := New(Config{Identity: testIdentity, Agent: p.consulModel, View: p.consulModel, Catalog: p.consulModel, Kube: p.consulModel, Prober: p.consulModel, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.Run(ctx) }()
	p.mu.Lock()
	p.registrar, p.end, p.deliveries = r, func() { cancel(); <-ended }, nil
	p.mu.Unlock()
	p.deliver()
}

// override requests an override of the registrar, and doesn't wait for the answer.
func (p *play) override(o Override) {
	p.mu.Lock()
	registrar := p.registrar
	p.mu.Unlock()
	go func() { _, _ = registrar.Override(context.Background(), o) }()
}

// fault is what a call meets now.
func (p *play) fault(call string) error {
	p.mu.Lock()
	away, fail := p.away, p.failCalls
	if time.Since(p.second) >= time.Second {
		p.second, p.calls = time.Now(), map[string]int{}
	}
	p.calls[call]++
	hurry := p.calls[call] == hurried
	p.mu.Unlock()
	if hurry {
		p.violated(fmt.Sprintf("%d times %q in a second", hurried, call))
		time.Sleep(time.Second) // or virtual time would never go on
	}
	p.world.mu.Lock()
	down, leader := p.down, p.leader
	p.world.mu.Unlock()
	switch {
	case call == "gate" && away:
		return errOther
	case !toConsul(call):
	case down:
		return ErrRefused
	case call == "catalog" && !leader:
		return errOther
	}
	if fail != nil {
		return fail(call)
	}
	return nil
}

// write follows a written condition.
func (p *play) write(c corev1.PodCondition) (version string) {
	open := c.Status == gateOpen
	var was, known bool
	var lag time.Duration
	version = p.change(func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{c}
		was, known, p.open, lag = p.open, p.knows(p.taken), open, p.answerDelay
	})
	switch {
	case was && !open && !p.mayClose(contract.Reason(c.Reason)):
		p.violated(fmt.Sprintf("an open gate closed: %s %s", c.Reason, c.Message))
	case !was && known && open && !p.mayOpen() && !p.mayOpenUnserved(contract.Reason(c.Reason)):
		p.violated("the gate opened before the catalog had the instances as they should be: " + c.Message)
	}
	time.Sleep(lag)
	return version
}

// knows reports whether the registrar got this version of the pod, or a later one, before this moment.
func (p *play) knows(version int) bool {
	return slices.ContainsFunc(p.deliveries, func(d delivery) bool {
		got, _ := strconv.Atoi(strings.TrimPrefix(d.pod.ResourceVersion, p.versionPrefix))
		return got >= version && d.at.Before(time.Now())
	})
}

// mayOpen reports whether a gate may open now: the pod is ready, and the catalog has shown each of its instances as the pod
// asks for it, and passing, since the registrar last changed it at the agent.
func (p *play) mayOpen() bool {
	return slices.ContainsFunc(p.current(), func(d delivery) bool {
		if d.reg == nil || !d.pod.Status.ContainerStatuses[0].Ready {
			return false
		}
		return !slices.ContainsFunc(define(testIdentity, d.pod.Status.PodIP, "", d.reg), func(want Definition) bool {
			return !p.shownPassing(want.ID, want.Fingerprint())
		})
	})
}

// mayOpenUnserved reports whether a gate may open now for this reason without Consul: of a pod that opts out.
func (p *play) mayOpenUnserved(why contract.Reason) bool {
	return why == contract.OptedOut && slices.ContainsFunc(p.current(), func(d delivery) bool { return registration.OptedOut(d.pod) })
}

// mayClose reports whether an open gate may close for this reason: at the end, or under the continuous policy when the
// catalog lacks an instance.
func (p *play) mayClose(why contract.Reason) bool {
	return why == contract.Draining || why == contract.CatalogLost && slices.ContainsFunc(p.current(), func(d delivery) bool {
		return d.reg != nil && d.reg.Settings.GatePolicy == contract.GateContinuous
	})
}

// soonOver is how long after the last fault a ready pod's gate may still be closed: as long as the longest backoff, and a
// resync.
const soonOver = 100 * time.Second

// perform plays a script, lets all faults stop, and returns the problems that are left after a while; empty: none.
func perform(steps []step) (problem string) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &play{consulModel: newModel(ctx), pod: withLocalAPI(), version: 1}
	p.usualDelays()
	p.fail, p.onWrite = p.fault, p.write
	p.begin()
	defer func() { p.end() }()
	for _, s := range steps {
		s.event.do(p)
		time.Sleep(s.pause)
	}
	p.update(func() { p.failCalls, p.away = nil, false; p.usualDelays() })
	p.locked(func() { p.leader, p.syncing, p.slow, p.syncDelay = true, true, nil, 5*time.Millisecond })
	p.start(false)
	p.deliver()
	if _, errs := registration.Parse(p.now(), nil); len(errs) > 0 {
		p.change(func(pod *corev1.Pod) { pod.Annotations = withLocalAPI().Annotations })
	}
	time.Sleep(2 * changeEvery)
	bounded, enough := context.WithTimeout(ctx, 3*time.Second)
	defer enough()
	if _, err := p.registrar.Override(bounded, resume()); err != nil && !registration.OptedOut(p.now()) {
		return "the maintenance can't be ended: " + err.Error()
	}
	// What is registered reaches the catalog without a full sync; a health that changed meanwhile may wait for one.
	isReady := p.now().Status.ContainerStatuses[0].Ready
	time.Sleep(soonOver)
	if w := p.gateProblem(isReady); w != "" {
		return w + ", before a full sync"
	}
	p.syncAll()
	time.Sleep(6 * time.Minute)
	if w := slices.Concat(p.converged(isReady), p.allViolations()); len(w) > 0 {
		return strings.Join(w, "; ")
	}
	p.change(func(pod *corev1.Pod) { *pod = *deleted(pod) })
	began := time.Now()
	if !p.registrar.Drain(ctx, time.Second) {
		return "the drain hook was not held"
	}
	if took := time.Since(began); took > 21*time.Second {
		return fmt.Sprintf("the drain took %s", took)
	}
	p.locked(func() {
		for id := range p.catalog {
			if p.own(id) {
				problem = id + " is in the catalog after the drain"
			}
		}
	})
	if w := p.allViolations(); len(w) > 0 {
		return strings.Join(w, "; ")
	}
	return problem
}

// converged are the differences from what the pod asks for.
func (p *play) converged(isReady bool) (problems []string) {
	pod := p.now()
	reg, _ := registration.Parse(pod, nil)
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	if failing := p.registrar.Status().Failing; len(failing) > 0 {
		problems = append(problems, fmt.Sprintf("without faults, these fail: %v", failing))
	}
	wanted := map[string]Definition{}
	if registration.OptedOut(pod) {
		reg.Services = nil
	}
	for _, d := range define(testIdentity, pod.Status.PodIP, "", reg) {
		wanted[d.ID] = d
	}
	for _, id := range slices.Concat(slices.Collect(maps.Keys(p.agent)), slices.Collect(maps.Keys(p.catalog))) {
		if _, asked := wanted[id]; p.own(id) && !asked {
			problems = append(problems, id+" is still there")
		}
	}
	for id, want := range wanted {
		seen, there := p.catalog[id]
		e := p.agent[id]
		switch {
		case isReady && (!there || seen.Health != contract.Passing):
			problems = append(problems, fmt.Sprintf("the pod is ready, and the catalog has %s: %v, %q", id, there, seen.Health))
		case !isReady && there && seen.Health == contract.Passing:
			problems = append(problems, "the pod is not ready, and the catalog says passing of "+id)
		case there && (seen.Fingerprint != want.Fingerprint() || !same(want, e.definition) || len(e.checks) != 2):
			problems = append(problems, fmt.Sprintf("the agent has %+v, the catalog %+v", e, seen))
		}
	}
	return problems
}

func (p *play) gateProblem(isReady bool) string {
	if isReady && p.last().Status != gateOpen {
		return "the pod is ready, and its gate is closed"
	}
	return ""
}

// performed performs in a bubble of its own.
func performed(t *testing.T, steps []step) (problem string) {
	t.Helper()
	synctest.Test(t, func(*testing.T) { problem = perform(steps); time.Sleep(time.Minute) })
	return problem
}

// shrink takes out steps for as long as a problem is left.
func shrink(t *testing.T, steps []step) []step {
	t.Helper()
	for i := 0; i < len(steps); {
		fewer := slices.Concat(steps[:i], steps[i+1:])
		if performed(t, fewer) != "" {
			steps = fewer
		} else {
			i++
		}
	}
	return steps
}

// Sequences of TestAnySequenceConverges: the same ones each time, or with the environment variable that many others.
const (
	sequences     = 200
	sequencesMore = "AGENTLET_SEQUENCES"
	longest       = 30
)

// TestAnySequenceConverges plays random scripts. One that fails is made shorter, and printed with its seed.
func TestAnySequenceConverges(t *testing.T) {
	n, seed := sequences, uint64(1)
	if more, err := strconv.Atoi(os.Getenv(sequencesMore)); err == nil {
		n, seed = more, rand.Uint64()
	}
	if testing.Short() {
		n /= 10
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range n {
		bytes := make([]byte, 2*(1+random.IntN(longest)))
		for i := range bytes {
			bytes[i] = byte(random.IntN(256))
		}
		if problem := performed(t, script(bytes)); problem != "" {
			t.Fatalf("seed %d: %s, after\n%s\nor shorter\n%s", seed, problem, describeSteps(script(bytes)), describeSteps(shrink(t, script(bytes))))
		}
	}
}

// FuzzLife has the fuzzer write the scripts.
func FuzzLife(f *testing.F) {
	f.Add([]byte{1, 5, 24, 0, 3, 6, 10, 5})
	f.Add([]byte{16, 0, 1, 7, 22, 2, 36, 4, 18, 6}) // a heartbeat that passes again while syncs fail
	f.Add([]byte{1, 5, 22, 0, 29, 7, 19, 1, 29, 6}) // the same edit again, while the catalog is awaited
	f.Fuzz(func(t *testing.T, bytes []byte) {
		steps := script(bytes[:min(len(bytes), 2*longest)])
		if problem := performed(t, steps); problem != "" {
			t.Errorf("%s, after\n%s", problem, describeSteps(steps))
		}
	})
}
