package injector

import (
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSecurityContext(t *testing.T) {
	for name, test := range map[string]struct {
		fields SecurityContext
		// want changes what there is without fields.
		want func(c *corev1.SecurityContext)
		err  string
	}{
		"none":       {"", func(*corev1.SecurityContext) {}, ""},
		"empty":      {"{}", func(*corev1.SecurityContext) {}, ""},
		"a new one":  {`{"seLinuxOptions": {"type": "agentlet_t"}}`, func(c *corev1.SecurityContext) { c.SELinuxOptions = &corev1.SELinuxOptions{Type: "agentlet_t"} }, ""},
		"another":    {`{"readOnlyRootFilesystem": false}`, func(c *corev1.SecurityContext) { c.ReadOnlyRootFilesystem = new(false) }, ""},
		"left out":   {`{"seccompProfile": null}`, func(c *corev1.SecurityContext) { c.SeccompProfile = nil }, ""},
		"one within": {`{"capabilities": {"add": ["NET_RAW"]}}`, func(c *corev1.SecurityContext) { c.Capabilities.Add = []corev1.Capability{"NET_RAW"} }, ""},
		"a profile of the node's": {
			`{"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}, "appArmorProfile": {"type": "Unconfined"}}`,
			func(c *corev1.SecurityContext) {
				c.SeccompProfile.Type, c.SeccompProfile.LocalhostProfile = corev1.SeccompProfileTypeLocalhost, new("a.json")
				c.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
			}, "",
		},
		"privileged, on purpose": {
			`{"privileged": true, "allowPrivilegeEscalation": true}`,
			func(c *corev1.SecurityContext) { c.Privileged, c.AllowPrivilegeEscalation = new(true), new(true) }, "",
		},
		"no JSON":              {fields: "x", err: "must be fields of a container's security context in JSON"},
		"a list":               {fields: "[]", err: "must be fields of a container's security context in JSON"},
		"two":                  {fields: "{}{}", err: "after top-level value"},
		"one twice":            {fields: `{"privileged": false, "privileged": false}`, err: `duplicate field "privileged"`},
		"in capitals":          {fields: `{"RUNASUSER": 0}`, err: `unknown field "RUNASUSER"`},
		"an unknown one":       {fields: `{"runAsUsr": 1}`, err: `unknown field "runAsUsr"`},
		"one of pods":          {fields: `{"fsGroup": 1}`, err: `unknown field "fsGroup"`},
		"privileged":           {fields: `{"privileged": true}`, err: "allowPrivilegeEscalation: Invalid value: false: must be true with privileged"},
		"as good as root":      {fields: `{"capabilities": {"add": ["SYS_ADMIN"]}}`, err: "must be true with privileged or SYS_ADMIN"},
		"a user":               {fields: `{"runAsUser": null}`, err: "security-context.runAsUser: Forbidden: set --run-as-user"},
		"a group":              {fields: `{"runAsGroup": 1}`, err: "security-context.runAsGroup: Forbidden: set --run-as-user"},
		"more behind it":       {fields: `{"privileged": false}]`, err: "after top-level value"},
		"another profile":      {fields: `{"seccompProfile": {"type": "x"}}`, err: `seccompProfile.type: Unsupported value: "x"`},
		"a profile of no file": {fields: `{"appArmorProfile": {"type": "Localhost"}}`, err: "appArmorProfile.localhostProfile: Required value"},
		"a file of no profile": {fields: `{"seccompProfile": {"localhostProfile": "a"}}`, err: "seccompProfile.localhostProfile: Invalid value"},
		"a mount of proc":      {fields: `{"procMount": "x"}`, err: `procMount: Unsupported value: "x"`},
		"Windows":              {fields: `{"windowsOptions": {}}`, err: "windowsOptions: Forbidden: the agentlet runs on Linux"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Image: "i", ConsulPort: 8500, ConsulScheme: "http", SecurityContext: test.fields}
			injector, err := New(config)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if err != nil {
				return
			}
			want := restricted(new(int64(agentletUser)))
			test.want(want)
			if got := injector.parts.security.usual; !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}
