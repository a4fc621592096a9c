package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestDatabaseIsReached(t *testing.T) {
	serve := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/index/db.json" {
				t.Errorf("asked for %s", r.URL.Path)
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for name, test := range map[string]struct{ address, want string }{
		"it answers":              {serve(http.StatusOK), ""},
		"with a slash at the end": {serve(http.StatusOK) + "/", ""},
		"something else answers":  {serve(http.StatusForbidden), "403 Forbidden"},
		"nothing answers":         {closed.URL, "can't be reached"},
		"a folder":                {"file:///nowhere", ""},
		"no address":              {":", "want a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			err := reachDatabase(t.Context(), test.address)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
