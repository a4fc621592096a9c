package manifests

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestDownload(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/web.yaml", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("kind: Web\n")) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/web.yaml", http.StatusFound) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for written := 0; ; {
			n, err := w.Write(bytes.Repeat([]byte("#"), 1<<16))
			if err != nil {
				return
			}
			if written += n; written > 2*maxDownload {
				t.Error("an endless answer was read to its end")
				return
			}
		}
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	secret := strings.Replace(server.URL, "http://", "http://me:hidden@", 1)
	for name, test := range map[string]struct{ at, want, fails string }{
		"file":            {at: server.URL + "/web.yaml", want: "kind: Web\n"},
		"redirect":        {at: server.URL + "/moved", want: "kind: Web\n"},
		"a password":      {at: secret + "/web.yaml", want: "kind: Web\n"},
		"another scheme":  {at: server.URL + "/file", fails: "redirected from http to file"},
		"round and round": {at: server.URL + "/round", fails: "more than 5 redirects"},
		"absent":          {at: secret + "/absent.yaml", fails: "the server answered 404"},
		"endless":         {at: server.URL + "/endless", fails: "more than 32 MiB"},
		"nobody there":    {at: "http://me:hidden@127.0.0.1:1/web.yaml", fails: "refused"},
		"no address":      {at: "https://me:hidden@[", fails: "not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			files, diagnostics, err := Read(t.Context(), []string{test.at}, false, strings.NewReader(""))
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || strings.Contains(err.Error(), "hidden") {
					t.Errorf("want %q, got %v", test.fails, err)
				}
				return
			}
			if err != nil || len(diagnostics) > 0 || len(files) != 1 {
				t.Fatal(err, diagnostics)
			}
			out, _, err := files[0].Injected(nil)
			if err != nil || string(out) != test.want || strings.Contains(files[0].Name, "hidden") {
				t.Errorf("%s: %q, %v", files[0].Name, out, err)
			}
		})
	}
}

// TestRedirectsDontLeaveHTTPS: who names https trusts only what comes by it.
func TestRedirectsDontLeaveHTTPS(t *testing.T) {
	for way, may := range map[string]bool{
		"https to https": true, "http to https": true, "http to http": true, "https to http": false, "https to file": false, "http to ftp": false,
	} {
		var from, to string
		if _, err := fmt.Sscanf(way, "%s to %s", &from, &to); err != nil {
			t.Fatal(err)
		}
		request := func(scheme string) *http.Request { return &http.Request{URL: &url.URL{Scheme: scheme}} }
		if err := mayRedirect(request(to), []*http.Request{request(from)}); (err == nil) != may {
			t.Errorf("%s: %v", way, err)
		}
	}
}
