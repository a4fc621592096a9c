package agentlet

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// FuzzDrainRequest holds that whatever anybody sends to the agentlet's port is answered, starts nothing, and gets as far as the
// drain hook only with the pod's own nonce.
func FuzzDrainRequest(f *testing.F) {
	const nonce = "5f1c"
	f.Add(http.MethodGet, contract.DrainPath, "", nonce, "127.0.0.1")
	f.Add(http.MethodGet, contract.DrainPath, "nonce="+nonce, "", "web:19500")
	f.Add(http.MethodPost, contract.DrainPath+"/", "a=%zz&;", nonce+" ", "")
	f.Add(http.MethodGet, contract.StatusPath, "", strings.Repeat("x", 1000), "[::1]:0")
	f.Add("GET\n", "//drain/../drain", "?", "\x00", "a/b")
	f.Fuzz(func(t *testing.T, method, path, query, sent, host string) {
		r := New(Config{Identity: testIdentity})
		gone, cancel := context.WithCancel(t.Context())
		cancel() // or a hook with the right nonce would wait a second for a sign of the end
		request := (&http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: host, Header: http.Header{}}).WithContext(gone)
		request.Header.Set(contract.NonceHeader, sent)
		recorder := httptest.NewRecorder()
		r.Handler(nonce).ServeHTTP(recorder, request)
		hooked := method == http.MethodGet && path == contract.DrainPath
		switch {
		case hooked && sent == nonce && recorder.Code != http.StatusOK, hooked && sent != nonce && recorder.Code != http.StatusForbidden:
			t.Errorf("%d %q to the nonce %q", recorder.Code, recorder.Body, sent)
		case strings.Contains(recorder.Body.String(), nonce) && !strings.Contains(path+query+host, nonce):
			t.Errorf("the nonce is told: %q", recorder.Body)
		}
		if closed(r.terminating) || closed(r.drained) {
			t.Error("a request began the end")
		}
	})
}

// FuzzPod holds that no pod that the API server may tell of, after any other, makes the registrar panic, touch what isn't the
// pod's own, or say what a condition can't hold.
func FuzzPod(f *testing.F) {
	begun := probed(nil)
	for _, pair := range [][2]*corev1.Pod{
		{testPod(), ready(testPod(), true)},
		{ready(testPod(), true), deleted(ready(testPod(), true))},
		{gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), testPod("heartbeat-ttl", "soon")},
		{begun, ready(begun, true)},
		{otherGated(testPod("gate", "registered"), corev1.ConditionTrue), testPod("service-names", "web,admin")},
	} {
		first, _ := json.Marshal(pair[0])
		second, _ := json.Marshal(pair[1])
		f.Add(first, second)
	}
	still := func(d time.Duration) time.Duration { return d }
	f.Fuzz(func(t *testing.T, first, second []byte) {
		now := time.Now()
		s := newState(testIdentity)
		s.otherGates = []string{"example.com/other"}
		s.conn = agentConn{answers: true, leader: true, listed: true}
		for _, text := range [][]byte{first, second} {
			pod := &corev1.Pod{}
			if json.Unmarshal(text, pod) != nil {
				return
			}
			s.observePod(pod, nil, now)
			for range 3 { // each with the answers to what was asked before
				s.observeReadiness(now)
				s.gate.want, s.gate.wantSince = decideGate(s, now), now.Add(-conditionDebounce)
				s.events.setDesired(desiredEvent(s, now), now)
				p := plan(s, now)
				for _, a := range p.work {
					checkAction(t, a)
					s.handleResult(outcome{action: a, view: CatalogView{Instances: map[string]CatalogInstance{}}}, now, still)
				}
				now = now.Add(time.Minute)
			}
		}
	})
}

func checkAction(t *testing.T, a action) {
	t.Helper()
	switch a.kind {
	case register, deregister, updateReadiness, updateHeartbeat, watch:
		if !strings.HasPrefix(a.id, testIdentity.Prefix()) {
			t.Errorf("%s of %q", a.kind, a.id)
		}
	case patchStatus:
		if a.condition.Type != contract.Condition {
			t.Errorf("condition %+v", a.condition)
		}
		mustBePrintable(a.condition.Message, contract.MaxConditionMessage)
	case createEvent:
		mustBePrintable(a.event.Message, contract.MaxEventMessage)
	default:
	}
}
