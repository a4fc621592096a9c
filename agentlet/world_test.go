package agentlet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// world is all that a registrar talks to: a Consul agent, a catalog that follows it after a delay, an API server, and
// an application. It lives in a synctest bubble.
type world struct {
	mu        sync.Mutex
	agent     map[string]agentEntry
	catalog   map[string]CatalogInstance
	index     uint64
	changed   chan struct{}        // closed and renewed at each change of the catalog or the agent
	syncDelay time.Duration        // from a change at the agent until the catalog has it
	allowed   registration.Allowed // the registrar's
	sync      bool                 // whether the agent syncs at all
	keeps     bool                 // the agent has no node:write: the catalog keeps what it removes
	discards  bool                 // the agent keeps no output of checks
	leader    bool
	own       contract.Health // of the service's own check; none when empty
	proxyOwn  contract.Health // of a mesh proxy's own check
	order     []string        // registrations and deregistrations in their order, by the instance
	fail      func(call string) error
	broken    chan struct{}            // closed when connections break
	failFor   map[string]error         // registrations of an instance
	slow      map[string]time.Duration // how long a call takes, cancelled or not
	calls     map[string]int
	nodeDown  []string
	written   []corev1.PodCondition
	others    []corev1.PodCondition
	gates     []string     // the registrar's OtherGates
	log       *slog.Logger // of the registrar
	onWrite   func(corev1.PodCondition) (version string)
	events    []Event
	listens   map[int]bool // ports whose probes succeed
	// hook is what a container's own hook does; nil: it answers at once. called are the hooks' ports.
	hook   func(ctx context.Context) error
	called []int

	// acl: calls need a session. alive are the tokens that Consul knows, current is the token that calls are made with, renew is
	// what logins return.
	acl     bool
	alive   map[int]bool
	current int
	renew   time.Duration
}

type agentEntry struct {
	definition           Definition
	readiness, heartbeat contract.Health
	output               string          // of the readiness check
	savedReadiness       contract.Health // on the agent's disk, with an update
	savedHeartbeat       contract.Health
	checks               []string
	token                int // that the agent keeps with it
}

func newWorld() *world {
	return &world{
		listens: map[int]bool{}, log: slog.New(slog.DiscardHandler), changed: make(chan struct{}), broken: make(chan struct{}), syncDelay: 5 * time.Millisecond, sync: true, leader: true,
		agent: map[string]agentEntry{}, catalog: map[string]CatalogInstance{}, calls: map[string]int{}, alive: map[int]bool{}, index: 1,
	}
}

// inWorld runs a test in a synctest bubble, with a world of its own.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld()) })
}

// runInWorld runs a subtest in a world of its own.
func runInWorld(t *testing.T, name string, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { inWorld(t, test) })
}

func (w *world) enter(ctx context.Context, call string) error {
	w.mu.Lock()
	w.calls[call]++
	fail, slow := w.fail, w.slow[call]
	denied := w.denies(call)
	w.mu.Unlock()
	time.Sleep(slow)
	if fail != nil {
		if err := fail(call); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return w.hang(ctx, call)
			}
			return err
		}
	}
	return errors.Join(denied, ctx.Err())
}

// Bounds of the adapter to Consul: of a wait for a change, with an answer and without, and of a read that doesn't wait.
const (
	longWait = 5 * time.Minute
	longHang = longWait + longWait/8
	readHang = 5 * time.Second
)

// hang never gets an answer, as over a connection that is open at this end alone. It ends as the adapters end such
// calls: with the caller's bound or their own, and for Consul as ErrLate.
func (w *world) hang(ctx context.Context, call string) error {
	ctx, cancel := context.WithTimeout(ctx, longHang)
	defer cancel()
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	select {
	case <-broken:
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() == nil:
		return ErrUnreachable
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case !toConsul(call):
		return ctx.Err()
	}
	return ErrLate
}

// breakConnections ends the calls that hang, as a restart of the agent does.
func (w *world) breakConnections() {
	w.locked(func() {
		close(w.broken)
		w.broken = make(chan struct{})
	})
}

// toConsul reports whether a call goes to Consul, and not to the API server or the application.
func toConsul(call string) bool { return call != "gate" && call != "event" && call != "probe" }

// failing makes these calls fail with err.
func failing(err error, calls ...string) func(string) error {
	return func(call string) error {
		if slices.Contains(calls, call) {
			return err
		}
		return nil
	}
}

// failingConsul makes all calls to Consul fail with err.
func failingConsul(err error) func(string) error {
	return func(call string) error {
		if toConsul(call) {
			return err
		}
		return nil
	}
}

// fails makes all calls to Consul fail from now on.
func (w *world) fails(err error) { w.setFail(failingConsul(err)) }

func (w *world) setFail(fail func(string) error) {
	w.locked(func() { w.fail = fail })
}

// refusesNow reports whether a call of this kind does not reach the agent at all.
func (w *world) refusesNow(call string) bool {
	w.mu.Lock()
	fail := w.fail
	w.mu.Unlock()
	return fail != nil && fail(call) != nil
}

// denies is the error of Consul's ACLs for a call.
func (w *world) denies(call string) error {
	switch {
	case !w.acl || !toConsul(call) || call == "leader" || call == "login" || call == "logout":
		return nil
	case w.current == 0:
		return ErrDenied
	case !w.alive[w.current]:
		return ErrUnknownToken
	}
	return nil
}

// Login makes a token.
func (w *world) Login(ctx context.Context) (Session, error) {
	if err := w.enter(ctx, "login"); err != nil {
		return Session{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = w.calls["login"]
	w.alive[w.current] = true
	return Session{ID: w.current, Renew: w.renew}, nil
}

// Logout destroys a token.
func (w *world) Logout(ctx context.Context, id int) error {
	if err := w.enter(ctx, "logout"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.alive[id] {
		return ErrAbsent
	}
	delete(w.alive, id)
	return nil
}

// tokens that Consul knows.
func (w *world) tokens() int { return read(w, func() int { return len(w.alive) }) }

// locked changes the world, of which nobody is notified.
func (w *world) locked(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// read reads the world.
func read[T any](w *world, what func() T) (got T) {
	w.locked(func() { got = what() })
	return got
}

// set changes the world, ends what waits for a change, and lets the catalog follow.
func (w *world) set(change func()) {
	w.mu.Lock()
	change()
	w.touch()
	if w.sync {
		time.AfterFunc(w.syncDelay, w.syncNow)
	}
	w.mu.Unlock()
}

func (w *world) touch() {
	w.index++
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) syncNow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := map[string]CatalogInstance{}
	if w.keeps {
		next = maps.Clone(w.catalog)
	}
	for id, e := range w.agent {
		if w.acl && !w.alive[e.token] { // its checks and definition no longer reach the catalog
			if old, there := w.catalog[id]; there {
				next[id] = old
			}
			continue
		}
		own := w.own
		if e.definition.Proxy != nil {
			own = w.proxyOwn
		}
		next[id] = CatalogInstance{Health: worst(worst(e.readiness, e.heartbeat), own), Heartbeat: e.heartbeat, Readiness: e.readiness, Fingerprint: e.definition.Fingerprint(), Failing: failingOwn(own), Answered: failingOwn(own) != ""}
	}
	if !maps.Equal(next, w.catalog) {
		w.catalog = next
		w.touch()
	}
}

// failingOwn names the service's own check, if there is one that doesn't pass.
func failingOwn(own contract.Health) string {
	if own == "" || own == contract.Passing {
		return ""
	}
	return "own"
}

func worst(a, b contract.Health) contract.Health {
	if a != contract.Passing && a != "" || b == "" {
		return a
	}
	return b
}

// Register reaches the agent even if its caller has cancelled it meanwhile.
func (w *world) Register(ctx context.Context, d Definition, health contract.Health, obsolete []string) error {
	if err := w.enter(ctx, "register"); err != nil && ctx.Err() == nil || w.refusesNow("register") {
		return err
	}
	if err := w.failFor[d.ID]; err != nil {
		return err
	}
	w.set(func() {
		w.order = append(w.order, "+"+d.ID)
		entry, there := w.agent[d.ID]
		if !there {
			entry = agentEntry{readiness: health, heartbeat: contract.Passing}
		}
		entry.definition, entry.token = d, w.current
		for _, id := range d.checkIDs() {
			if !slices.Contains(entry.checks, id) {
				entry.checks = append(entry.checks, id)
			}
		}
		entry.checks = slices.DeleteFunc(entry.checks, func(id string) bool { return slices.Contains(obsolete, id) })
		w.agent[d.ID] = entry
	})
	return ctx.Err()
}

func (w *world) Deregister(ctx context.Context, id string) error {
	if err := w.enter(ctx, "deregister"); err != nil {
		return err
	}
	w.mu.Lock()
	w.order = append(w.order, "-"+id)
	_, there := w.agent[id]
	w.mu.Unlock()
	if !there {
		return ErrAbsent
	}
	w.set(func() { delete(w.agent, id) })
	return nil
}

func (w *world) Update(ctx context.Context, checkID string, health contract.Health, output string) error {
	id, check, _ := strings.Cut(checkID, ":")
	if err := w.enter(ctx, check); err != nil {
		return err
	}
	w.mu.Lock()
	entry, there := w.agent[id]
	w.mu.Unlock()
	if !there || entry.checks != nil && !slices.Contains(entry.checks, checkID) {
		return ErrAbsent
	}
	was := entry
	if check == "heartbeat" {
		entry.heartbeat, entry.savedHeartbeat = health, health
	} else {
		entry.readiness, entry.savedReadiness, entry.output = health, health, output
	}
	if entry.heartbeat == was.heartbeat && entry.readiness == was.readiness && entry.output == was.output {
		w.locked(func() { w.agent[id] = entry })
		return nil // an unchanged check is not synced
	}
	w.set(func() { w.agent[id] = entry })
	return nil
}

// restartAgent has the agent restore its checks as Consul's does: one whose state it has not saved is critical.
func (w *world) restartAgent() {
	w.set(func() {
		for id, entry := range w.agent {
			entry.heartbeat = cmp.Or(entry.savedHeartbeat, contract.Critical)
			entry.readiness = cmp.Or(entry.savedReadiness, contract.Critical)
			w.agent[id] = entry
		}
	})
}

func (w *world) HasLeader(ctx context.Context) (bool, error) {
	if err := w.enter(ctx, "leader"); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader, nil
}

func (w *world) Instances(ctx context.Context, prefix string) (map[string]Observed, error) {
	if err := w.enter(ctx, "instances"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	observed := map[string]Observed{}
	for id, e := range w.agent {
		if strings.HasPrefix(id, prefix) {
			o := Observed{Definition: e.definition, Fingerprint: e.definition.Fingerprint(), Readiness: e.readiness, Checks: slices.Sorted(slices.Values(e.checks))}
			switch {
			case w.discards && e.readiness == contract.Critical:
				o.MaintenanceOutput = e.definition.Maintenance
			case strings.HasPrefix(e.output, contract.MaintenanceOutput):
				o.MaintenanceOutput = e.output
			}
			observed[id] = o
		}
	}
	return observed, nil
}

func (w *world) Changed(ctx context.Context, id, hash string) (string, error) {
	over := time.After(longWait)
	for {
		if err := w.enter(ctx, "changed"); err != nil {
			return "", err
		}
		w.mu.Lock()
		entry, there := w.agent[id]
		changed := w.changed
		w.mu.Unlock()
		if !there {
			return "", ErrAbsent
		}
		if now := strings.Join(entry.definition.Tags, ",") + entry.definition.Meta[contract.MetaSyncGeneration]; now+"#" != hash {
			return now + "#", nil
		}
		select {
		case <-changed:
		case <-over:
			return hash, nil
		case <-ctx.Done():
			return "", context.Canceled
		}
	}
}

func (w *world) OnNode(ctx context.Context, prefix string, index uint64, wait time.Duration) (CatalogView, error) {
	bound, over := readHang, time.After(wait)
	if index > 0 {
		bound += wait + wait/16
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		if err := w.enter(ctx, "catalog"); err != nil {
			return CatalogView{}, err
		}
		w.mu.Lock()
		view := CatalogView{Index: w.index, Instances: map[string]CatalogInstance{}, FailingNodeChecks: w.nodeDown}
		for id, h := range w.catalog {
			if strings.HasPrefix(id, prefix) {
				view.Instances[id] = h
			}
		}
		changed := w.changed
		w.mu.Unlock()
		if view.Index > index {
			return view, nil
		}
		select {
		case <-changed:
		case <-over:
			return view, nil
		case <-ctx.Done():
			return CatalogView{}, context.Canceled
		}
	}
}

func (w *world) SetConditions(ctx context.Context, conditions []corev1.PodCondition) (version string, err error) {
	if err := w.enter(ctx, "gate"); err != nil {
		return "", err
	}
	for i := range conditions {
		mustBePrintable(conditions[i].Message, contract.MaxConditionMessage)
	}
	w.mu.Lock()
	c := conditions[0] // the own one
	w.written, w.others = append(w.written, c), append(w.others, conditions[1:]...)
	onWrite := w.onWrite
	version = strconv.Itoa(1000 + len(w.written))
	w.mu.Unlock()
	if onWrite != nil {
		version = onWrite(c)
	}
	return version, nil
}

func (w *world) CreateEvent(ctx context.Context, e Event) error {
	if err := w.enter(ctx, "event"); err != nil {
		return err
	}
	mustBePrintable(e.Message, contract.MaxEventMessage)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	return nil
}

// mustBePrintable panics, because it has no test to fail, for a message that the chart's policies would reject.
func mustBePrintable(message string, most int) {
	control := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if len(message) > most || !utf8.ValidString(message) || strings.ContainsFunc(message, control) {
		panic(fmt.Sprintf("a message of %d bytes, at most %d are allowed: %q", len(message), most, message))
	}
}

// Probe succeeds when the application listens on the port.
func (w *world) Probe(ctx context.Context, p registration.Probe) error {
	if err := w.enter(ctx, "probe"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.listens[p.Port] {
		return errors.New("connection refused")
	}
	return nil
}

func (w *world) Call(ctx context.Context, hook registration.PreStop) error {
	w.mu.Lock()
	w.called = append(w.called, hook.Port)
	do := w.hook
	w.mu.Unlock()
	if do == nil {
		return nil
	}
	return do(ctx)
}

func (w *world) listen(port int, yes bool) {
	w.locked(func() { w.listens[port] = yes })
}

// eventReasons are the reasons of the events so far, warnings with an exclamation mark.
func (w *world) eventReasons() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var reasons []string
	for _, e := range w.events {
		mark := ""
		if e.Warning {
			mark = "!"
		}
		reasons = append(reasons, string(e.Reason)+mark)
	}
	return strings.Join(reasons, " ")
}

// last condition written; the zero condition when there is none.
func (w *world) last() corev1.PodCondition {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.written) == 0 {
		return corev1.PodCondition{}
	}
	return w.written[len(w.written)-1]
}

// conditions written so far.
func (w *world) conditions() []corev1.PodCondition {
	return read(w, func() []corev1.PodCondition { return slices.Clone(w.written) })
}

func (w *world) count(call string) int { return read(w, func() int { return w.calls[call] }) }

func (w *world) total() (n int) {
	w.locked(func() {
		for _, count := range w.calls {
			n += count
		}
	})
	return n
}

// expectBackoff waits for two minutes of a lasting failure: calls are rare, and the gate is not written again.
func (w *world) expectBackoff(t *testing.T) {
	t.Helper()
	calls, writes := w.total(), len(w.conditions())
	after(2 * time.Minute)
	if n := w.total() - calls; n > 120 {
		t.Errorf("%d calls in two minutes, want at most one a second", n)
	}
	if n := len(w.conditions()) - writes; n > 0 {
		t.Errorf("the same reason was written %d times more", n)
	}
}

// since are the registrations and deregistrations after the first ones, in their order.
func (w *world) since(first int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.order[min(first, len(w.order)):])
}

func (w *world) inCatalog(id string) contract.Health {
	return read(w, func() contract.Health { return w.catalog[id].Health })
}

// expectHealth checks what the catalog says of the web service.
func (w *world) expectHealth(t *testing.T, when string, want contract.Health) {
	t.Helper()
	if got := w.inCatalog(webID); got != want {
		t.Errorf("%s: the catalog says %q, want %q", when, got, want)
	}
}

// Statuses of the gate.
const (
	gateOpen   = corev1.ConditionTrue
	gateClosed = corev1.ConditionFalse
)

// expectGate checks the condition that was written last, with parts of its message.
func (w *world) expectGate(t *testing.T, when string, status corev1.ConditionStatus, reason contract.Reason, parts ...string) {
	t.Helper()
	got := w.last()
	wrong := got.Status != status || got.Reason != string(reason)
	for _, part := range parts {
		wrong = wrong || !strings.Contains(got.Message, part)
	}
	if wrong {
		t.Errorf("%s: the gate says %q %s %q, want %q %s with %q", when, got.Status, got.Reason, got.Message, status, reason, parts)
	}
}

// expectOneCondition checks that the gate was opened, and never written again.
func (w *world) expectOneCondition(t *testing.T) {
	t.Helper()
	if n := len(w.conditions()); n != 1 || w.last().Status != gateOpen {
		t.Errorf("the gate was written %d times, the last time %q, want once, %q", n, w.last().Status, gateOpen)
	}
}

// expectNeverClosed checks all conditions that were written.
func (w *world) expectNeverClosed(t *testing.T) {
	t.Helper()
	for _, c := range w.conditions() {
		if c.Status != gateOpen {
			t.Errorf("the gate was closed: %s %q", c.Reason, c.Message)
		}
	}
}

// expectEvents checks the reasons of all events so far.
func (w *world) expectEvents(t *testing.T, want string) {
	t.Helper()
	if got := w.eventReasons(); got != want {
		t.Errorf("the events are %q, want %q", got, want)
	}
}

// web is the web service's entry at the agent, or the zero entry.
func (w *world) web() agentEntry { return read(w, func() agentEntry { return w.agent[webID] }) }

// registered reports whether the agent has the web service.
func (w *world) registered() bool { return w.web().definition.ID != "" }

// changes is the number of changes so far.
func (w *world) changes() uint64 { return read(w, func() uint64 { return w.index }) }

// start runs a registrar against the world until the test's end, and hands these pods over to it. The returned channel
// gets Run's result.
func (w *world) start(t *testing.T, pods ...*corev1.Pod) (*Registrar, <-chan error) {
	t.Helper()
	config := Config{
		Identity: testIdentity, Agent: w, View: w, Catalog: w, Kube: w, Prober: w, Hooks: w,
		Allowed: w.allowed, OtherGates: w.gates, Logger: w.log,
	}
	if w.acl {
		config.Login = w
	}
	r := New(config)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	returned := make(chan struct{})
	go func() { ended <- r.Run(ctx); close(returned) }()
	t.Cleanup(func() { cancel(); <-returned })
	for _, pod := range pods {
		r.OnUpdate(pod)
	}
	return r, ended
}

// started brings a pod to an open gate and returns its registrar.
func started(t *testing.T, w *world, pod *corev1.Pod) (*Registrar, <-chan error) {
	t.Helper()
	r, ended := w.start(t, pod)
	synctest.Wait()
	r.OnUpdate(ready(pod, true))
	after(w.syncDelay + 100*time.Millisecond)
	w.expectGate(t, "started", gateOpen, contract.Registered)
	if t.Failed() {
		t.FailNow()
	}
	return r, ended
}

// after lets virtual time pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// held is a passing entry of a definition.
func (w *world) held(d Definition) agentEntry {
	return agentEntry{definition: d, readiness: contract.Passing, heartbeat: contract.Passing, checks: d.checkIDs()}
}

// adopt has the agent and the catalog hold an instance that an earlier process of the agentlet has registered.
func (w *world) adopt(d Definition) {
	w.agent[d.ID] = w.held(d)
	w.syncNow()
}

// editWeb changes the web service's entry at the agent, as somebody else would.
func (w *world) editWeb(change func(*agentEntry)) {
	w.set(func() {
		entry := w.agent[webID]
		change(&entry)
		w.agent[webID] = entry
	})
}

// edited is what somebody else changes.
func edited(e *agentEntry) { e.definition.Tags = []string{"edited"} }

func (e *agentEntry) removeCheck(kind string) {
	e.checks = slices.DeleteFunc(slices.Clone(e.checks), func(id string) bool { return strings.HasSuffix(id, kind) })
}

// loseWeb has the catalog lose the web service behind its agent's back.
func (w *world) loseWeb() {
	w.locked(func() {
		delete(w.catalog, webID)
		w.touch()
	})
}

// defined is the first definition that a pod asks for.
func (w *world) defined(pod *corev1.Pod) Definition {
	s := newState(testIdentity)
	s.observePod(pod, nil, time.Now())
	return *s.instances[webID].want
}

const testUID = "12345678-9abc-def0-1234-56789abcdef0"

var testIdentity = Identity{
	Namespace: "shop", Pod: "web-1", UID: testUID, Node: "node1", HostIP: "10.0.0.1", ConsulAddress: "10.0.0.1:8500",
}

// serviceID is the ID of a service of the test's pod.
func serviceID(name string) string { return contract.ServiceID("shop", "web-1", testUID, name) }

var webID = contract.ServiceID("shop", "web-1", testUID, "web")

var proxyID = contract.ProxyID("shop", "web-1", testUID, "web")

// testPod is a running pod with one container and one service; not ready.
func testPod(annotations ...string) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: types.UID(testUID), ResourceVersion: "1",
			Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "8080"},
		},
		Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}}, Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.1.0.5",
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "app", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
	for i := 0; i+1 < len(annotations); i += 2 {
		pod.Annotations[contract.Prefix+annotations[i]] = annotations[i+1]
	}
	return pod
}

// annotated is testPod with these annotations; an empty value removes the key.
func annotated(pairs ...string) *corev1.Pod {
	pod := testPod(pairs...)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(pod.Annotations, contract.Prefix+pairs[i])
		}
	}
	return pod
}

func withoutIP(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Status.PodIP = ""
	return pod
}

func ready(pod *corev1.Pod, yes bool) *corev1.Pod {
	pod = pod.DeepCopy()
	for i := range pod.Status.ContainerStatuses {
		pod.Status.ContainerStatuses[i].Ready = yes
	}
	return pod
}

// ungated is testPod with gate: off, and without the gate.
func ungated() *corev1.Pod { return withoutGates(testPod("gate", "off")) }

// withoutGates is a pod that was created with gate: off, whatever it says now.
func withoutGates(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.ReadinessGates = nil
	return pod
}

// opened is a ready pod with an open gate.
func opened(annotations ...string) *corev1.Pod {
	return gated(ready(testPod(annotations...), true), gateOpen, contract.Registered)
}

// deletes has the registrar observe the deletion of testPod.
func deletes(r *Registrar) { r.OnUpdate(deleted(ready(testPod(), true))) }

func deleted(pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	now := metav1.Now()
	pod.DeletionTimestamp = &now
	return pod
}

func gated(pod *corev1.Pod, status corev1.ConditionStatus, reason contract.Reason) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Status.Conditions = []corev1.PodCondition{{Type: contract.Condition, Status: status, Reason: string(reason)}}
	if reason == contract.Registered {
		pod.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.5"
	}
	return pod
}

// foreign is a condition that somebody else has written.
func foreign() corev1.PodCondition {
	return corev1.PodCondition{Type: contract.Condition, Status: gateClosed, Reason: "Foreign", Message: "closed by hand"}
}

const otherGate = "katalog-sync.wish.com/synced"

// otherGates are the gates of an installation that replaces another system.
func otherGates() []string { return []string{otherGate, "not.in/this-pod"} }

// otherGated is a pod that also lists another system's gate, with this status; empty: not written.
func otherGated(pod *corev1.Pod, status corev1.ConditionStatus) *corev1.Pod {
	pod = pod.DeepCopy()
	if !hasGate(pod, otherGate) {
		pod.Spec.ReadinessGates = append(pod.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: otherGate})
	}
	if status != "" {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: otherGate, Status: status, Reason: "Theirs"})
	}
	return pod
}

// checked is a ready pod whose service has a check of its own.
func checked() *corev1.Pod {
	return ready(structured("{name: web, port: 8080, checks: [{name: own, http: /healthz, interval: 10s}]}"), true)
}

// structured is testPod with this service alone, in YAML.
func structured(service string, annotations ...string) *corev1.Pod {
	return annotated(append([]string{"service-names", "", "service-port", "", "services", "[" + service + "]"}, annotations...)...)
}

// meshPod is a pod whose service has a proxy, with an upstream at this port.
func meshPod(upstream string) *corev1.Pod {
	return structured("{name: web, port: 8080, tags: [a], meta: {team: core}, connect: {sidecar_service: {proxy: {upstreams: [" +
		"{destination_name: db, local_bind_port: " + upstream + "}]}}}}")
}

// withLocalAPI is a pod that enables the local API.
func withLocalAPI(annotations ...string) *corev1.Pod {
	return testPod(append([]string{"local-api", "enabled"}, annotations...)...)
}

func maintain(reason string) Override { return Override{Maintenance: &Maintenance{true, reason}} }

func resume() Override { return Override{Maintenance: &Maintenance{}} }

const probePeriod = 10 * time.Second

// probed is a pod whose container began now and has a TCP readiness probe on port 80, of 10s.
func probed(change func(*corev1.Container)) *corev1.Pod {
	pod := testPod("readiness", "probe")
	c := &pod.Spec.Containers[0]
	c.ReadinessProbe = tcpProbe(80)
	if change != nil {
		change(c)
	}
	begin(pod, "first")
	return pod
}

func tcpProbe(port int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}},
		PeriodSeconds: int32(probePeriod / time.Second), TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
}

// begin has the pod's container run since now, as this instance.
func begin(pod *corev1.Pod, instance string) {
	status := &pod.Status.ContainerStatuses[0]
	status.ContainerID, status.Ready = instance, false
	status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

func mustGlobs(t *testing.T, parse func(text, source string) (registration.Globs, error), text string) registration.Globs {
	t.Helper()
	globs, err := parse(text, "of a test")
	if err != nil {
		t.Fatal(err)
	}
	return globs
}

func serviceGlobs(t *testing.T, text string) registration.Globs {
	t.Helper()
	return mustGlobs(t, registration.ParseServiceGlobs, text)
}

func tagGlobs(t *testing.T, text string) registration.Globs {
	t.Helper()
	return mustGlobs(t, registration.ParseTagGlobs, text)
}

func still(d time.Duration) time.Duration { return d }

// connection is that with an agent that is well.
func connection() agentConn { return agentConn{phase: connected, listed: true} }

// answers are ports that return the same for every call.
type answers struct {
	err      error
	view     CatalogView
	observed map[string]Observed
}

func (a answers) config() *Config {
	return &Config{Identity: testIdentity, Agent: a, View: a, Catalog: a, Kube: a, Prober: a, Login: a}
}

func (a answers) Register(context.Context, Definition, contract.Health, []string) error { return a.err }

func (a answers) Deregister(context.Context, string) error { return a.err }

func (a answers) Update(context.Context, string, contract.Health, string) error { return a.err }

func (a answers) HasLeader(context.Context) (bool, error) { return a.err == nil, a.err }

func (a answers) Changed(context.Context, string, string) (string, error) { return "", a.err }

func (a answers) Login(context.Context) (Session, error) { return Session{ID: 1}, a.err }

func (a answers) Logout(context.Context, int) error { return a.err }

func (a answers) CreateEvent(context.Context, Event) error { return a.err }

func (a answers) Probe(context.Context, registration.Probe) error { return a.err }

func (a answers) Instances(context.Context, string) (map[string]Observed, error) {
	return a.observed, a.err
}

func (a answers) OnNode(context.Context, string, uint64, time.Duration) (CatalogView, error) {
	return a.view, a.err
}

func (a answers) SetConditions(context.Context, []corev1.PodCondition) (string, error) {
	return "1", a.err
}

// finish runs a command with these answers, and has the state handle the outcome.
func finish(s *state, c command, with answers, now time.Time) {
	if noting, ok := c.(starter); ok {
		noting.start(s)
	}
	b := s.begun()
	o := c.run(context.Background(), with.config())
	s.handleOutcome(c, o, turn{begun: b, now: now, jitter: still, log: slog.New(slog.DiscardHandler), metrics: newMetrics()})
}
