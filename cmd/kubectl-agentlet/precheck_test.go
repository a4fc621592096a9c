package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestPreFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"a probe without an image":      {[]string{"--pre", "--probe-nodes", "-n", "default"}, "--probe-nodes: needs --image"},
		"a probe without a namespace":   {[]string{"--pre", "--probe-nodes", "--image", "i"}, "--probe-nodes: needs -n"},
		"a probe after installation":    {[]string{"--probe-nodes", "-n", "a", "--image", "i"}, "--probe-nodes: only with --pre"},
		"an image without a probe":      {[]string{"--pre", "--image", "i"}, "--image: only with --probe-nodes"},
		"a port after installation":     {[]string{"--consul-port", "8501"}, "--consul-port: only with --pre"},
		"a port that is none":           {[]string{"--pre", "--consul-port", "0"}, "--consul-port 0: must be a port number"},
		"a scheme that is none":         {[]string{"--pre", "--consul-scheme", "ftp"}, `--consul-scheme "ftp": must be http or https`},
		"no patience":                   {[]string{"--pre", "--probe-nodes", "-n", "a", "--image", "i", "--probe-patience", "0s"}, "--probe-patience 0s: must be more than 0"},
		"everything, but no kubeconfig": {[]string{"--pre", "--probe-nodes", "-n", "a", "--image", "i", "--consul-port", "8501", "--consul-scheme", "https"}, "read kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := call(t, "", append([]string{"check"}, c.args...)...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestPreLooksEverywhere holds that -n is only the namespace to install into: Consul's agents may be in any.
func TestPreLooksEverywhere(t *testing.T) {
	for into, args := range map[string][]string{"agentlet-system": nil, "other": {"-n", "other"}} {
		api := newFakeAPI(t)
		args = append([]string{"check", "--pre", "--context=here", "--kubeconfig=" + api.kubeconfig(t)}, args...)
		out, _, _ := call(t, "", args...)
		if !strings.Contains(out, "namespace/"+into+": it does not exist yet") {
			t.Errorf("%s is not looked at:\n%s", into, out)
		}
		if !slices.ContainsFunc(api.requests, func(r *http.Request) bool { return r.URL.Path == "/api/v1/pods" }) {
			t.Errorf("%s: the pods of all namespaces are not read", into)
		}
	}
}
