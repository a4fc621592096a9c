package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// localCall is a request as the pod's own container makes it; change makes it another.
func localCall(path, body string, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPut, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "127.0.0.1:19500", "127.0.0.1:40000"
	r.Header.Set("Content-Type", "application/json")
	r = to(r, net.IPv4(127, 0, 0, 1))
	if change != nil {
		change(r)
	}
	return r
}

// to is the request as it came to this address.
func to(r *http.Request, ip net.IP) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: ip, Port: 19500}))
}

func TestLocalAPI(t *testing.T) {
	const good = `{"enabled": true, "reason": "compaction"}`
	cases := map[string]struct {
		path, body string
		change     func(*http.Request)
		code       int
		says       string // in the answer
	}{
		"maintenance":      {contract.MaintenancePath, good, nil, 200, `"inCatalog":true`},
		"and back":         {contract.MaintenancePath, `{"enabled": false}`, nil, 200, `"inCatalog":true`},
		"without a reason": {contract.MaintenancePath, `{"enabled": true}`, nil, 200, `"inCatalog":true`},
		"tags":             {contract.TagsPath, `{"tags": ["primary"]}`, nil, 200, `"inCatalog":true`},
		"over IPv6, by name": {contract.TagsPath, `{"tags": []}`, func(r *http.Request) {
			*r = *to(r, net.IPv6loopback)
			r.RemoteAddr, r.Host = "[::1]:40000", "localhost"
		}, 200, ""},
		"with a charset":          {contract.TagsPath, `{"tags": []}`, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 200, ""},
		"from the network":        {contract.MaintenancePath, good, func(r *http.Request) { *r = *to(r, net.IPv4(10, 1, 0, 5)) }, 403, "only over the pod's loopback"},
		"from a forged loopback":  {contract.MaintenancePath, good, func(r *http.Request) { r.RemoteAddr = "10.1.0.9:40000" }, 403, "only over the pod's loopback"},
		"from who knows where":    {contract.MaintenancePath, good, func(r *http.Request) { *r = *r.WithContext(context.Background()) }, 403, "only over the pod's loopback"},
		"by another name":         {contract.MaintenancePath, good, func(r *http.Request) { r.Host = "rebound.example:19500" }, 403, "Host: must be"},
		"by the pod's address":    {contract.MaintenancePath, good, func(r *http.Request) { r.Host = "10.1.0.5:19500" }, 403, "Host: must be"},
		"as a form":               {contract.MaintenancePath, good, func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415, "Content-Type: must be"},
		"as nothing":              {contract.MaintenancePath, good, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "Content-Type: must be"},
		"by POST":                 {contract.MaintenancePath, good, func(r *http.Request) { r.Method = http.MethodPost }, 405, ""},
		"by GET":                  {contract.MaintenancePath, good, func(r *http.Request) { r.Method = http.MethodGet }, 405, ""},
		"nothing said":            {contract.MaintenancePath, ``, nil, 400, "must be a JSON object with enabled and reason"},
		"no object":               {contract.MaintenancePath, `[true]`, nil, 400, "must be a JSON object"},
		"null":                    {contract.MaintenancePath, `null`, nil, 400, "must be a JSON object"},
		"two objects":             {contract.MaintenancePath, good + good, nil, 400, "must be a JSON object"},
		"not said whether":        {contract.MaintenancePath, `{"reason": "compaction"}`, nil, 400, "enabled: must be true or false"},
		"a text for a boolean":    {contract.MaintenancePath, `{"enabled": "true"}`, nil, 400, "enabled: must be true or false"},
		"another's field":         {contract.MaintenancePath, `{"enabled": true, "Reason": "x"}`, nil, 400, "Reason: unknown field; known are enabled, reason"},
		"twice":                   {contract.MaintenancePath, `{"enabled": true, "enabled": false}`, nil, 400, `duplicate field \"enabled\"`},
		"a reason for nothing":    {contract.MaintenancePath, `{"enabled": false, "reason": "done"}`, nil, 400, "reason: must be"},
		"an empty reason":         {contract.MaintenancePath, `{"enabled": true, "reason": " "}`, nil, 400, "reason: must be"},
		"no text":                 {contract.MaintenancePath, `{"enabled": true, "reason": 5}`, nil, 400, "reason: must be"},
		"two lines":               {contract.MaintenancePath, `{"enabled": true, "reason": "a\nb"}`, nil, 400, "reason: must hold no control characters"},
		"a tag turned around":     {contract.TagsPath, `{"tags": ["primary\u202e"]}`, nil, 400, "tags[0]: must hold no control characters"},
		"a long reason":           {contract.MaintenancePath, `{"enabled": true, "reason": "` + strings.Repeat("x", maxLocalCause+1) + `"}`, nil, 400, "reason: has 201 bytes"},
		"no tags":                 {contract.TagsPath, `{}`, nil, 400, "tags: must be a list"},
		"no list":                 {contract.TagsPath, `{"tags": "primary"}`, nil, 400, "tags: must be a list"},
		"a tag that is no text":   {contract.TagsPath, `{"tags": ["a", null]}`, nil, 400, "tags[1]: must be a text"},
		"an empty tag":            {contract.TagsPath, `{"tags": [""]}`, nil, 400, "tags[0]: must be a text"},
		"a padded tag":            {contract.TagsPath, `{"tags": ["a "]}`, nil, 400, "tags[0]: must be a text"},
		"a tag that isn't UTF-8":  {contract.TagsPath, "{\"tags\": [\"a\xff\"]}", nil, 400, "tags[0]: must hold"},
		"a tag twice":             {contract.TagsPath, `{"tags": ["a", "a"]}`, nil, 400, `tags[1]: \"a\" is there twice`},
		"a long tag":              {contract.TagsPath, `{"tags": ["` + strings.Repeat("x", maxLocalTag+1) + `"]}`, nil, 400, "tags[0]: has 256 bytes"},
		"many tags":               {contract.TagsPath, `{"tags": [` + strings.Repeat(`"x",`, maxLocalTags) + `"x"]}`, nil, 400, "tags: there are 65"},
		"more than anybody sends": {contract.TagsPath, strings.Repeat(" ", maxLocalBody+1), nil, 413, "must not have more than 32768 bytes"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := running(t)
			recorder := httptest.NewRecorder()
			f.server().Handler().ServeHTTP(recorder, localCall(c.path, c.body, c.change))
			if recorder.Code != c.code || !strings.Contains(recorder.Body.String(), c.says) {
				t.Errorf("%d %q, want %d and %q", recorder.Code, recorder.Body, c.code, c.says)
			}
			if c.code != 405 && !json.Valid(recorder.Body.Bytes()) {
				t.Errorf("the answer is no JSON: %q", recorder.Body)
			}
			if taken := len(f.overrides) > 0; taken != (c.code == 200) {
				t.Errorf("the registrar has got it: %v", taken)
			}
		})
	}
}

func TestOutcomesOfAnOverride(t *testing.T) {
	for name, c := range map[string]struct {
		inCatalog bool
		err       error
		code      int
		again     string // Retry-After
	}{
		"in the catalog":     {true, nil, 200, ""},
		"not yet":            {false, nil, 202, ""},
		"not now":            {false, agentlet.ErrOverrideUnavailable, 503, "1"},
		"too often":          {false, agentlet.ErrTooManyOverrides, 429, "1"},
		"not allowed":        {false, agentlet.ErrOverrideForbidden, 403, ""},
		"not in this state":  {false, agentlet.ErrOverrideConflict, 409, ""},
		"for another reason": {false, errors.New("no"), 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := running(t)
			f.inCatalog, f.err = c.inCatalog, c.err
			recorder := httptest.NewRecorder()
			f.server().Handler().ServeHTTP(recorder, localCall(contract.TagsPath, `{"tags": ["a"]}`, nil))
			if recorder.Code != c.code || recorder.Header().Get("Retry-After") != c.again {
				t.Errorf("%d, Retry-After %q; want %d and %q", recorder.Code, recorder.Header().Get("Retry-After"), c.code, c.again)
			}
			if c.err != nil && !strings.Contains(recorder.Body.String(), c.err.Error()) {
				t.Errorf("the answer is %q, want %q in it", recorder.Body, c.err)
			}
		})
	}
}

// TestLocalAPIOverSockets is on real connections: those that come over the network's address are refused, whatever they say.
func TestLocalAPIOverSockets(t *testing.T) {
	address := elsewhere(t)
	server := httptest.NewUnstartedServer(running(t).server().Handler())
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	defer server.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for host, code := range map[string]int{"127.0.0.1": 200, address: 403} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+net.JoinHostPort(host, port)+contract.TagsPath, strings.NewReader(`{"tags": []}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "localhost"
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != code {
			t.Errorf("by %s: %d, want %d", host, response.StatusCode, code)
		}
	}
}

// elsewhere is an address of this machine that is not the loopback's.
func elsewhere(t *testing.T) string {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has the loopback alone")
	return ""
}

// FuzzLocalBodies holds that what is taken is within the bounds, and that what is refused says so in one line.
func FuzzLocalBodies(f *testing.F) {
	for _, body := range []string{
		`{"enabled": true, "reason": "compaction"}`, `{"enabled": false}`, `{"tags": ["primary", "a"]}`, `{"tags": []}`, `{"tags": null}`,
		`{"enabled": true, "enabled": false}`, `{"tags": [{"a": []}]}`, "{\"tags\": [\"\xff\"]}", `{"":1}`, "{\"\x7f\":false}", strings.Repeat("[", 20000), "\x00",
	} {
		f.Add([]byte(body))
	}
	tidy := func(text string, most int) bool {
		return len(text) <= most && utf8.ValidString(text) && !registration.HasControl(text) && strings.TrimSpace(text) != ""
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for name, parse := range map[string]func([]byte) (agentlet.Override, error){"maintenance": parseMaintenance, "tags": parseTags} {
			w, err := parse(body)
			switch {
			case err != nil && (!tidy(err.Error(), 500) || w != agentlet.Override{}):
				t.Errorf("%s: %q is refused with %q", name, body, err)
			case err != nil:
			case name == "maintenance" && (w.Tags != nil || w.Maintenance.Enabled != tidy(w.Maintenance.Reason, maxLocalCause)):
				t.Errorf("%q is taken as %+v", body, *w.Maintenance)
			case name == "tags":
				seen := map[string]bool{}
				for _, tag := range *w.Tags {
					if !tidy(tag, maxLocalTag) || seen[tag] || len(*w.Tags) > maxLocalTags {
						t.Errorf("%q is taken as %q", body, *w.Tags)
					}
					seen[tag] = true
				}
			}
		}
	})
}
