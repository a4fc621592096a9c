package driver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
)

// call calls a driver's API.
func call(t *testing.T, handler http.Handler, method, path string) (int, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody))
	return recorder.Code, recorder.Body.String()
}

func TestLoadBeginsAndEnds(t *testing.T) {
	answered := make(chan struct{}, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { answered <- struct{}{} }))
	t.Cleanup(server.Close)
	d := &driver{ctx: t.Context(), timeline: observe.NewTimeline(nil), load: load.Fixed(strings.TrimPrefix(server.URL, "http://"))}
	handler := d.handler()
	state := func() (s State) {
		t.Helper()
		_, body := call(t, handler, http.MethodGet, "/state")
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := state(); s.Requests != 0 || s.Passing != 1 {
		t.Errorf("before the load: %+v", s)
	}
	if code, body := call(t, handler, http.MethodPut, "/rate?per-second=200"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	for range 10 {
		<-answered
	}
	if code, body := call(t, handler, http.MethodPut, "/rate?per-second=0"); code != http.StatusOK {
		t.Fatal(code, body)
	}
	s := state()
	if s.Requests < 10 || s.Failed != 0 || s.Requests != int64(10+len(answered)) {
		t.Errorf("after the load, with %d answers: %+v", 10+len(answered), s)
	}
}

func TestRateIsANumber(t *testing.T) {
	d := &driver{ctx: context.Background(), timeline: observe.NewTimeline(nil), load: load.Fixed("192.0.2.1:1")}
	for _, rate := range []string{"", "many", "-1"} {
		if code, body := call(t, d.handler(), http.MethodPut, "/rate?per-second="+rate); code != http.StatusBadRequest {
			t.Errorf("per-second=%s: %d %s", rate, code, body)
		}
	}
}
