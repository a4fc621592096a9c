package agentlet

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// consulModel is a world whose agent syncs as Consul's does: a change at once, with all else that has not been synced; a sync
// that fails waits for the next change or the next full sync; an identical registration marks the instance as synced,
// true or not. It expires TTL checks, and reaps.
type consulModel struct {
	*world
	// syncing: the servers take what the agent syncs. down: the agent's process does not run.
	syncing, down bool
	unsynced      map[string]bool
	heartbeatAt   map[string]time.Time // the last heartbeat
	criticalSince map[string]time.Time // of the heartbeat
	others        map[string]agentEntry
	// passedAt is when the catalog last had a definition as passing, by ID and fingerprint, writtenAt when the registrar last
	// changed an instance at the agent.
	passedAt, writtenAt map[string]time.Time
	// violations are of what a registrar may never do.
	violations []string
}

// Pace of the agent. Full syncs are rarer than Consul's, so that they heal nothing that the registrar has to.
const (
	fullSync   = 20 * time.Minute
	reapEvery  = 30 * time.Second
	expireTick = time.Second
)

// foreignIDs are of instances at the same agent that belong to others, however similar to this pod's.
func foreignIDs() []string {
	return []string{
		contract.ServiceID("shop", "web-1", "deadbeef", "web"), contract.ServiceID("shop", "web-10", testUID, "web"),
		contract.ServiceID("shop2", "web-1", testUID, "web"), "web", strings.ToUpper(webID),
	}
}

// newModel lives until ctx ends.
func newModel(ctx context.Context) *consulModel {
	m := &consulModel{
		world: newWorld(), syncing: true,
		unsynced: map[string]bool{}, heartbeatAt: map[string]time.Time{}, criticalSince: map[string]time.Time{}, others: map[string]agentEntry{},
		passedAt: map[string]time.Time{}, writtenAt: map[string]time.Time{},
	}
	m.sync = false // the world's own way
	for _, id := range foreignIDs() {
		m.others[id] = agentEntry{readiness: contract.Passing, heartbeat: contract.Passing, definition: Definition{ID: id}}
		m.agent[id] = m.others[id]
	}
	m.syncAll()
	go m.run(ctx, fullSync, m.syncAll)
	go m.run(ctx, expireTick, m.expire)
	go m.run(ctx, reapEvery, m.reap)
	return m
}

func (m *consulModel) run(ctx context.Context, every time.Duration, do func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// own reports whether an ID is this pod's.
func (m *consulModel) own(id string) bool { return strings.HasPrefix(id, testIdentity.Prefix()) }

func (m *consulModel) violated(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violations = append(m.violations, what)
}

func (m *consulModel) checkOwn(call, id string) {
	if !m.own(id) {
		m.violated(call + " of " + id + ", which is another's")
	}
}

func (m *consulModel) Register(ctx context.Context, d Definition, health contract.Health, obsolete []string) error {
	m.checkOwn("registration", d.ID)
	before, _ := m.entryOf(d.ID)
	err := m.world.Register(ctx, d, health, obsolete)
	after, there := m.entryOf(d.ID)
	m.mu.Lock()
	if same := reflect.DeepEqual(before, after); there && (err == nil || !same) {
		// A registration makes the checks anew: their TTLs and the reaper's clock begin again, their states stay.
		m.heartbeatAt[d.ID] = time.Now()
		delete(m.criticalSince, d.ID)
		if same {
			delete(m.unsynced, d.ID)
		}
	}
	m.mu.Unlock()
	m.wrote(d.ID, before, after)
	return err
}

func (m *consulModel) Deregister(ctx context.Context, id string) error {
	m.checkOwn("deregistration", id)
	before, _ := m.entryOf(id)
	err := m.world.Deregister(ctx, id)
	after, _ := m.entryOf(id)
	m.wrote(id, before, after)
	return err
}

func (m *consulModel) Update(ctx context.Context, checkID string, health contract.Health, output string) error {
	id, check, _ := strings.Cut(checkID, ":")
	m.checkOwn("update", id)
	before, _ := m.entryOf(id)
	err := m.world.Update(ctx, checkID, health, output)
	after, _ := m.entryOf(id)
	if err == nil && check == "heartbeat" {
		m.mu.Lock()
		m.heartbeatAt[id] = time.Now()
		delete(m.criticalSince, id)
		m.mu.Unlock()
	}
	m.wrote(id, before, after)
	return err
}

func (m *consulModel) entryOf(id string) (agentEntry, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, there := m.agent[id]
	return e, there
}

// remember what the catalog has as passing. It is called before each change of the catalog, with the lock held.
func (m *consulModel) remember() {
	for id, seen := range m.catalog {
		if seen.Health == contract.Passing {
			m.passedAt[id+" "+seen.Fingerprint] = time.Now()
		}
	}
}

// shownPassing reports whether the catalog has had this definition as passing since the registrar last changed it.
func (m *consulModel) shownPassing(id, fingerprint string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remember()
	passed, ever := m.passedAt[id+" "+fingerprint]
	return ever && !passed.Before(m.writtenAt[id])
}

// lose has the catalog lose an instance behind its agent's back.
func (m *consulModel) lose(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.remember()
	delete(m.catalog, id)
	m.touch()
}

// wrote follows a change by the registrar.
func (m *consulModel) wrote(id string, before, after agentEntry) {
	if !reflect.DeepEqual(before, after) {
		m.mu.Lock()
		m.writtenAt[id] = time.Now()
		m.mu.Unlock()
	}
	m.follow(id, before, after)
}

// follow syncs a change.
func (m *consulModel) follow(id string, before, after agentEntry) {
	if reflect.DeepEqual(before, after) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unsynced[id] = true
	time.AfterFunc(m.syncDelay, m.syncChanges)
}

// meddle changes the agent's state past the registrar.
func (m *consulModel) meddle(id string, change func()) {
	before, _ := m.entryOf(id)
	m.mu.Lock()
	change()
	m.touch()
	m.mu.Unlock()
	after, _ := m.entryOf(id)
	m.follow(id, before, after)
}

func (m *consulModel) maySync() bool { return m.syncing && m.leader && !m.down }

func (m *consulModel) syncChanges() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.maySync() || len(m.unsynced) == 0 {
		return
	}
	m.remember()
	for id := range m.unsynced {
		m.push(id)
	}
	clear(m.unsynced)
	m.touch()
}

func (m *consulModel) push(id string) {
	e, there := m.agent[id]
	if !there {
		delete(m.catalog, id)
		return
	}
	m.catalog[id] = CatalogInstance{
		Health: worst(e.readiness, e.heartbeat), Heartbeat: e.heartbeat, Readiness: e.readiness, Fingerprint: e.definition.Fingerprint(),
	}
}

func (m *consulModel) syncAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.maySync() {
		return
	}
	m.remember()
	before := maps.Clone(m.catalog)
	for id := range before {
		m.push(id)
	}
	for id := range m.agent {
		m.push(id)
	}
	clear(m.unsynced)
	if !maps.Equal(before, m.catalog) {
		m.touch()
	}
}

// expire makes heartbeats critical whose TTL is over.
func (m *consulModel) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return
	}
	for id, e := range m.agent {
		if !m.own(id) || time.Since(m.heartbeatAt[id]) <= e.definition.HeartbeatTTL {
			continue
		}
		if _, known := m.criticalSince[id]; !known {
			m.criticalSince[id] = time.Now()
		}
		if e.heartbeat == contract.Passing {
			e.heartbeat = contract.Critical
			m.agent[id], m.unsynced[id] = e, true
			m.touch()
			time.AfterFunc(m.syncDelay, m.syncChanges)
		}
	}
}

func (m *consulModel) reap() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return
	}
	for id, since := range m.criticalSince {
		if e, there := m.agent[id]; there && time.Since(since) > e.definition.DeregisterAfter {
			delete(m.agent, id)
			delete(m.criticalSince, id)
			m.unsynced[id] = true
			m.touch()
			time.AfterFunc(m.syncDelay, m.syncChanges)
		}
	}
}

// stop ends the agent's process; start has it back, with its data or without.
func (m *consulModel) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = true
}

func (m *consulModel) start(lose bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.down {
		return
	}
	m.down = false
	clear(m.unsynced)
	clear(m.criticalSince)
	for id, e := range m.agent {
		switch {
		case !m.own(id):
		case lose:
			delete(m.agent, id)
		default: // its checks begin as critical
			e.heartbeat = contract.Critical
			m.agent[id], m.criticalSince[id] = e, time.Now()
		}
	}
	m.touch()
	time.AfterFunc(time.Second, m.syncAll)
}

// allViolations are those so far, and the changes of what belongs to others.
func (m *consulModel) allViolations() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	violations := m.violations
	for id, e := range m.others {
		if now, there := m.agent[id]; !there || !reflect.DeepEqual(now, e) {
			violations = append(violations, fmt.Sprintf("%s, which is another's, is now %+v at the agent", id, now))
		}
	}
	return violations
}
