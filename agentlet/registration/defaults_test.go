package registration

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestEverySettingHasAPlace holds that a key is a namespace's default if it is a setting that an installation may have a default
// for: what a pod registers, and what only the pod may ask for, is none.
func TestEverySettingHasAPlace(t *testing.T) {
	isSetting := map[string]bool{}
	for _, s := range settings {
		isSetting[s.key] = true
	}
	for _, key := range contract.Keys() {
		if want := isSetting[key.Name] && Defaultable(key.Name); key.NamespaceDefault() != want || want && key.PerService {
			t.Errorf("%s may stand on a namespace: %t, want %t", key.Name, key.NamespaceDefault(), want)
		}
	}
}

// TestANamespaceMaySayWhatAPodMay holds that a default is judged by the rules for the pod's own annotation.
func TestANamespaceMaySayWhatAPodMay(t *testing.T) {
	for _, key := range contract.Keys() {
		if !key.NamespaceDefault() {
			continue
		}
		for good, values := range map[bool][]string{true: goodValues[key.Name], false: badValues[key.Name]} {
			for _, value := range values {
				got, warnings := Defaults(nil).WithNamespace(map[string]string{key.Name: value})
				if text, there := got[key.Name]; there != good || text != value && good || (len(warnings) == 0) != good {
					t.Errorf("%s=%q: %v, %v", key.Name, value, got, warnings)
				}
			}
		}
	}
}

func TestDefaultsWithNamespace(t *testing.T) {
	installation := Defaults{"drain-delay": "4s", "heartbeat-ttl": "1m", "service-tags": "k8s"}
	for name, test := range map[string]struct {
		annotations annotations
		// namespace and installation are the defaults in force.
		namespace, installation string
		warnings                []string
	}{
		"none": {nil, "", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s", nil},
		"others": {
			annotations{"drain-delay": "8s", "readiness": "kubelet"}, "drain-delay=8s readiness=kubelet", "heartbeat-ttl=1m service-tags=k8s", nil,
		},
		"no settings": {
			annotations{"allowed-services": "web", "service-names": "web", "service-tags": "x", "local-api": "enabled", "connect-inject": "true", "gatee": "off", "inject": "false"},
			"", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s", nil,
		},
		"a wrong value": {
			annotations{"drain-delay": "8", "readiness": "kubelet"},
			"readiness=kubelet", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s",
			[]string{`annotation agentlet.dev/drain-delay: "8" has no effect: must be a duration such as 5s`},
		},
		"an empty value": {
			annotations{"gate": ""},
			"", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s",
			[]string{`annotation agentlet.dev/gate: "" has no effect: must be passing, registered or off`},
		},
		"a value against another": {
			annotations{"cpu-request": "2", "cpu-limit": "1", "gate": "off"},
			"gate=off", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s",
			[]string{
				`annotation agentlet.dev/cpu-request: "2" has no effect: must not be more than agentlet.dev/cpu-limit (1)`,
				`annotation agentlet.dev/cpu-limit: "1" has no effect: agentlet.dev/cpu-request (2) must not be more than agentlet.dev/cpu-limit (1)`,
			},
		},
		"a value against the contract's": {
			annotations{"heartbeat-ttl": "5m"},
			"", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s",
			[]string{`annotation agentlet.dev/heartbeat-ttl: "5m" has no effect: agentlet.dev/deregister-after (2m) must not be less than agentlet.dev/heartbeat-ttl (5m)`},
		},
		"two values that hold together alone": {
			annotations{"heartbeat-ttl": "5m", "deregister-after": "6m"}, "deregister-after=6m heartbeat-ttl=5m", "drain-delay=4s service-tags=k8s", nil,
		},
		"too much": {
			annotations{"gate": "off", "container-exclude": strings.Repeat("a", maxText)},
			"", "drain-delay=4s heartbeat-ttl=1m service-tags=k8s",
			[]string{"annotation agentlet.dev/container-exclude: has no effect: this and the other defaults hold"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := maps.Clone(installation)
			got, warnings := installation.WithNamespace(newPod(test.annotations).Annotations)
			wantWarnings(t, warnings, test.warnings...)
			for _, w := range warnings {
				if _, ok := InNamespace(w.Field); !ok {
					t.Errorf("the path %s is not the namespace's", w.Field)
				}
			}
			namespace, rest := got.InForce(&corev1.Pod{})
			if pairs(namespace) != test.namespace || pairs(rest) != test.installation {
				t.Errorf("namespace: %s\ninstallation: %s", pairs(namespace), pairs(rest))
			}
			if !maps.Equal(installation, before) {
				t.Errorf("the installation's have become %v", installation)
			}
		})
	}
}

func pairs(values map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		all = append(all, key+"="+values[key])
	}
	return strings.Join(all, " ")
}

// TestPrecedence: the pod's annotation, then the namespace's, then the installation's, then the contract's default.
func TestPrecedence(t *testing.T) {
	for name, test := range map[string]struct {
		pod, namespace, installation annotations
		want                         time.Duration
	}{
		"all":                   {annotations{"drain-delay": "1s"}, annotations{"drain-delay": "2s"}, annotations{"drain-delay": "3s"}, time.Second},
		"without the pod":       {nil, annotations{"drain-delay": "2s"}, annotations{"drain-delay": "3s"}, 2 * time.Second},
		"without the namespace": {nil, nil, annotations{"drain-delay": "3s"}, 3 * time.Second},
		"none":                  {nil, nil, nil, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.pod)
			pod.Annotations[contract.ServiceNames] = "web"
			defaults, _ := Defaults(test.installation).WithNamespace(newPod(test.namespace).Annotations)
			reg, _ := mustParse(t, pod, defaults)
			if reg.Settings.DrainDelay != test.want {
				t.Errorf("%s", reg.Settings.DrainDelay)
			}
		})
	}
}

// TestErrorsNameTheSourceOfADefault: a pod that contradicts a default is told whose it is.
func TestErrorsNameTheSourceOfADefault(t *testing.T) {
	pod := newPod(annotations{"service-names": "web", "heartbeat-ttl": "5m"})
	for want, defaults := range map[string]Defaults{
		"(this value is the default of the pod's namespace)": {contract.DeregisterAfter: "3m", "deregister-after": "4m"},
		"(this value is the installation's default)":         {"deregister-after": "3m"},
		"reaped between two heartbeats":                      nil,
	} {
		_, errs := Parse(pod, defaults)
		if len(errs) != 1 || !strings.HasSuffix(errs[0].Detail, want) {
			t.Errorf("want one error that ends in %s: %v", want, errs)
		}
	}
}

// TestDefaultsInArguments: an agentlet, and whoever reads its pod, gets from the arguments what held at admission.
func TestDefaultsInArguments(t *testing.T) {
	defaults := Defaults{
		"drain-delay": "4s", contract.DrainDelay: "8s", "service-tags": `${POD_NAME},a=b`, contract.ContainerExclude: "$(POD_NAME),$$", "gate": "off",
	}
	args := defaults.Args()
	want := []string{
		"--default=agentlet.dev/container-exclude=$$(POD_NAME),$$$$", "--default=container-exclude=$$(POD_NAME),$$$$", "--default=agentlet.dev/drain-delay=8s", "--default=drain-delay=8s",
		"--default=gate=off", "--default=service-tags=${POD_NAME},a=b",
	}
	if !slices.Equal(args, want) {
		t.Errorf("%q", args)
	}
	defaults["drain-delay"], defaults["container-exclude"] = "8s", "$(POD_NAME),$$" // for older agentlets
	if got := DefaultsOf(&corev1.Container{Args: append([]string{"run", "--default-other=x=y", "--default=nothing"}, args...)}); !maps.Equal(got, defaults) {
		t.Errorf("read back: %v", got)
	}
	for _, pair := range []string{"", "gate", "=off"} {
		if err := (Defaults{}).SetFlag(pair); err == nil {
			t.Errorf("%q is taken", pair)
		}
	}
}

func TestLintNamespace(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		want        []string
	}{
		"all well":       {annotations{"allowed-services": "[", "gate": "off"}, nil}, // wrong globs are an error
		"a wrong value":  {annotations{"gate": "ajar"}, []string{`annotation agentlet.dev/gate: "ajar" has no effect: must be passing`}},
		"a pod's":        {annotations{"services": "[]"}, []string{"annotation agentlet.dev/services: has no effect on a namespace: agentlet reads it from the annotations of pods"}},
		"of one service": {annotations{"service-port.web": "1"}, []string{"annotation agentlet.dev/service-port.web: has no effect on a namespace"}},
		"only a pod's":   {annotations{"local-api": "enabled"}, []string{"annotation agentlet.dev/local-api: has no effect on a namespace"}},
		"the label":      {annotations{"inject": "enabled"}, []string{"annotation agentlet.dev/inject: has no effect: a namespace is opted in by a label"}},
		"a slip":         {annotations{"allowed-service": "web"}, []string{"is not known to agentlet; did you mean agentlet.dev/allowed-services?"}},
		"another slip":   {annotations{"gates": "off"}, []string{"is not known to agentlet; did you mean agentlet.dev/gate?"}},
		"unknown":        {annotations{"something": "x"}, []string{"annotation agentlet.dev/something: is not known to agentlet"}},
	} {
		t.Run(name, func(t *testing.T) {
			all := newPod(test.annotations).Annotations
			all["example.com/gate"] = "x"
			wantWarnings(t, LintNamespace(all, nil), test.want...)
		})
	}
}
