package injector

import (
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// TestDefaultsOfTheNamespace decides on a pod of an annotated namespace. The installation has drain-delay=4s and gate-timeout=10m.
func TestDefaultsOfTheNamespace(t *testing.T) {
	type said = map[string]string
	for name, test := range map[string]struct {
		namespace, pod said
		args           []string // by which the agentlet is told
		warnings       []string
	}{
		"nobody says anything": {nil, nil, []string{"--default=drain-delay=4s", "--default=gate-timeout=10m"}, nil},
		"the namespace does": {
			said{contract.DrainDelay: "8s", contract.Readiness: "kubelet"},
			nil,
			[]string{"--default=agentlet.dev/drain-delay=8s", "--default=drain-delay=8s", "--default=agentlet.dev/readiness=kubelet", "--default=readiness=kubelet", "--default=gate-timeout=10m"},
			nil,
		},
		"the pod does, too": { // and might take its word back while it runs
			said{contract.DrainDelay: "8s"},
			said{contract.DrainDelay: "1s"},
			[]string{"--default=agentlet.dev/drain-delay=8s", "--default=drain-delay=8s", "--default=gate-timeout=10m"},
			nil,
		},
		"what shapes the container": {
			said{contract.AgentletPort: "19600", contract.LogLevel: "debug"},
			said{contract.LogLevel: "warn"},
			[]string{"--port=19600", "--log-level=warn", "--default=agentlet.dev/agentlet-port=19600", "--default=agentlet-port=19600", "--default=agentlet.dev/log-level=debug", "--default=log-level=debug", "--default=drain-delay=4s", "--default=gate-timeout=10m"},
			nil,
		},
		"what is a pod's own": {
			said{contract.ServiceTags: "x", contract.LocalAPI: "enabled", contract.ConnectInject: "true"},
			nil,
			[]string{"--default=drain-delay=4s", "--default=gate-timeout=10m"},
			nil,
		},
		"a wrong value": {
			said{contract.DrainDelay: "8", contract.Gate: "off"},
			nil,
			[]string{"--default=agentlet.dev/gate=off", "--default=gate=off", "--default=drain-delay=4s", "--default=gate-timeout=10m"},
			[]string{`namespace "shop": annotation agentlet.dev/drain-delay: "8" has no effect: must be a duration such as 5s`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := serving("web")
			maps.Copy(pod.Annotations, test.pod)
			d := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce, NamespaceAnnotations: test.namespace})
			if d.Outcome != Injected {
				t.Fatalf("%s: %v", d.Outcome, d.Errors)
			}
			args := slices.DeleteFunc(argsOf(t, d, "--"), func(arg string) bool {
				return !strings.Contains(arg, "default=") && !slices.Contains(test.args, arg)
			})
			if !slices.Equal(args, test.args) {
				t.Errorf("the agentlet is told %q", args)
			}
			var warnings []string
			for _, w := range d.Warnings {
				warnings = append(warnings, w.Message)
			}
			if !slices.Equal(warnings, test.warnings) {
				t.Errorf("warnings: %q", warnings)
			}
		})
	}
}

// TestWrittenDefaultsStay: a later pass, after the namespace has changed, goes by what the agentlet was told, because that one follows
// it: a gate that the agentlet doesn't know of would never open.
func TestWrittenDefaultsStay(t *testing.T) {
	pod := serving("web")
	i := testInjector(t)
	reg, errs := registration.Parse(pod, registration.Defaults{contract.Gate: "off", contract.DrainHook: "false"})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	written := registration.Defaults{contract.Gate: "off", contract.DrainHook: "false"}
	agentlet := i.parts.container(pod, &reg.Settings, nonce, &registration.Allowed{}, nil, written)
	pod.Spec.Containers = append(pod.Spec.Containers, *agentlet)
	pod.Spec.Volumes = []corev1.Volume{i.parts.volume}
	for _, namespace := range []map[string]string{nil, {contract.Gate: "passing"}, {contract.Gate: "ajar"}} {
		d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: "another", NamespaceAnnotations: namespace})
		if d.Reason != ReasonAlreadyInjected || len(d.Patch) > 0 || len(d.Warnings) > 0 {
			t.Errorf("%v: %s, %v, %v", namespace, d.Reason, d.Patch, d.Warnings)
		}
		if inForce, _ := d.Defaults.InForce(pod); inForce["gate"] != "off" {
			t.Errorf("%v: the defaults are %v", namespace, inForce)
		}
	}
}
