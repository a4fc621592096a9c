package registration

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func q(text string) *resource.Quantity { return new(resource.MustParse(text)) }

// contractSettings are the settings of a pod that says nothing of its own.
func contractSettings() Settings {
	return Settings{
		Gate: contract.GatePassing, GatePolicy: contract.GateOnce, Readiness: contract.ReadinessStart,
		Placement:    contract.PlacementContainer,
		HeartbeatTTL: 30 * time.Second, DeregisterAfter: 2 * time.Minute, DrainDelay: 5 * time.Second,
		DrainHook: contract.DrainHookOn, AgentletPort: 19500, LocalAPI: contract.LocalAPIDisabled, LogLevel: "info",
		Resources: Resources{CPURequest: q("5m"), MemoryRequest: q("16Mi"), MemoryLimit: q("64Mi")},
	}
}

func TestSettings(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		defaults    Defaults
		change      func(*Settings)
		warns       []string
	}{
		"the contract's defaults": {},
		"the installation's": {
			defaults: Defaults{"drain-delay": "7s", "gate": "registered"},
			change: func(s *Settings) {
				s.DrainDelay, s.Gate, s.Placement = 7*time.Second, contract.GateRegistered, contract.PlacementSidecar
			},
		},
		"the pod's before them": {
			annotations: annotations{"drain-delay": "0s"}, defaults: Defaults{"drain-delay": "7s"},
			change: func(s *Settings) { s.DrainDelay = 0 },
		},
		"no gate, whatever else": {
			annotations: annotations{"gate": "off", "gate-timeout": "5m", "gate-policy": "continuous"},
			change: func(s *Settings) {
				s.Gate, s.GateTimeout, s.GatePolicy = contract.GateOff, 5*time.Minute, contract.GateContinuous
			},
		},
		"never, against the installation": {
			annotations: annotations{"gate-timeout": "never"}, defaults: Defaults{"gate-timeout": "1m"},
		},
		"never, by the installation": {
			annotations: annotations{"gate-timeout": "1m"}, defaults: Defaults{"gate-timeout": " never "},
			change: func(s *Settings) { s.GateTimeout = time.Minute },
		},
		"readiness": {annotations: annotations{"readiness": "probe"}, change: func(s *Settings) { s.Readiness = contract.ReadinessProbe }},
		"the local API": {annotations: annotations{"local-api": "enabled"}, change: func(s *Settings) {
			s.LocalAPI, s.Placement = contract.LocalAPIEnabled, contract.PlacementSidecar
		}},
		"a native sidecar": {
			annotations: annotations{"placement": "sidecar"}, change: func(s *Settings) { s.Placement = contract.PlacementSidecar },
		},
		"a native sidecar, by the installation": {
			defaults: Defaults{"placement": "sidecar"}, change: func(s *Settings) { s.Placement = contract.PlacementSidecar },
		},
		"a container, against the installation": {annotations: annotations{"placement": "container"}, defaults: Defaults{"placement": "sidecar"}},
		"auto, against the installation":        {annotations: annotations{"placement": "auto"}, defaults: Defaults{"placement": "sidecar"}},
		"the least": {
			annotations: annotations{"heartbeat-ttl": "3s", "deregister-after": "1m", "agentlet-port": "1024", "drain-timeout": "1ms"},
			change: func(s *Settings) {
				s.HeartbeatTTL, s.DeregisterAfter, s.AgentletPort, s.DrainTimeout = 3*time.Second, time.Minute, 1024, time.Millisecond
			},
		},
		"the most": {
			annotations: annotations{"heartbeat-ttl": "24h", "deregister-after": "24h", "agentlet-port": "65535"},
			change: func(s *Settings) {
				s.HeartbeatTTL, s.DeregisterAfter, s.AgentletPort = 24*time.Hour, 24*time.Hour, 65535
			},
			warns: []string{"for up to 23h59m30s after"},
		},
		"exclude": {
			annotations: annotations{"container-exclude": "proxy, migrate"},
			change:      func(s *Settings) { s.Exclude = []string{"proxy", "migrate"} },
		},
		"no hook, more log": {
			annotations: annotations{"drain-hook": "false", "log-level": "debug"},
			change:      func(s *Settings) { s.DrainHook, s.LogLevel = contract.DrainHookOff, "debug" },
		},
		"resources": {
			annotations: annotations{"cpu-request": "50m", "cpu-limit": "0.1", "memory-request": "32Mi", "memory-limit": "0"},
			change: func(s *Settings) {
				s.Resources = Resources{CPURequest: q("50m"), CPULimit: q("100m"), MemoryRequest: q("32Mi")}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			pod.Annotations[contract.ServiceNames] = "web"
			want := contractSettings()
			if test.change != nil {
				test.change(&want)
			}
			reg, warnings := mustParse(t, pod, test.defaults)
			if diff := cmp.Diff(want, reg.Settings); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings, test.warns...)
		})
	}
}

// badValues holds, for each key that a pod may have, values that it may not.
var badValues = map[string][]string{
	contract.InjectLabel:      nil, // another value is a warning
	contract.ServiceNames:     {"", "a b", "é"},
	contract.ServicePort:      {"", "0", "65536", "8080/tcp", "no-such"},
	contract.ServiceTags:      {",", "a,,b"},
	contract.ServiceMeta:      {",", "a", ":b", "é:b"},
	contract.ServiceHealth:    {"", "ok", "Passing"},
	contract.Services:         {"", "{}", "[]", "web", "- ", "[{}]", "---\n- name: a\n---\n- name: b\n"},
	contract.TagsFromLabels:   {",", "a b"},
	contract.MetaFromLabels:   {",", "a b", "=x"},
	contract.ContainerExclude: {",", "a,,b"},
	contract.HeartbeatTTL:     {"", "30", "2999ms", "25h", "-30s"},
	contract.DeregisterAfter:  {"", "59s", "25h", "2 m"},
	contract.Gate:             {"", "on", "false"},
	contract.GateTimeout:      {"", "Never", "0", "0s", "-1s", "24h1s"},
	contract.GatePolicy:       {"", "always"},
	contract.Readiness:        {"", "none"},
	contract.Placement:        {"", "init", "Sidecar"},
	contract.DrainDelay:       {"", "5", "-1s", "25h"},
	contract.DrainTimeout:     {"", "0s", "-1s", "25h"},
	contract.DrainHook:        {"", "no", "0", "True", "Chain"},
	contract.AgentletPort:     {"", "80", "1023", "65536", "http"},
	contract.CPURequest:       {"", "-1", "10 m", "6u"},
	contract.MemoryRequest:    {"", "-1", "16MB", "16"},
	contract.CPULimit:         {"", "-1", "x", "1u"},
	contract.MemoryLimit:      {"", "-1Mi", "64", "7Mi"},
	contract.LocalAPI:         {"", "true", "Enabled", "on"},
	contract.ConnectInject:    {"", "enabled", "1", "true"}, // true without a service in the mesh
	contract.LogLevel:         {"", "INFO", "trace"},
}

// goodValues holds, for each key that a pod may have, values that it may: an ordinary one, and those at its bounds.
var goodValues = map[string][]string{
	contract.InjectLabel:      {"enabled", "false"},
	contract.ServiceNames:     {"web", "a", "web,api", " web , api ", strings.Repeat("a", 63)},
	contract.ServicePort:      {"8080", "1", "65535", "http"},
	contract.ServiceTags:      {"", "a", "a,b", `a\,b`, "é", "a=b:c"},
	contract.ServiceMeta:      {"", "a:b", "a:b,c:d", "a:", `a:b\,c`, "a:b:c", "a:" + strings.Repeat("x", 512)},
	contract.ServiceHealth:    {"passing", "warning", "critical"},
	contract.Services:         {"- name: web", "- {name: web, port: 1}", "- {name: web, port: http, tags: [a], meta: {a: b}}\n- {name: api, port: 65535}"},
	contract.TagsFromLabels:   {"", "role", "role,app.kubernetes.io/version"},
	contract.MetaFromLabels:   {"", "role", "role=app.kubernetes.io/component,version"},
	contract.ContainerExclude: {"", "proxy", "proxy,migrate"},
	contract.HeartbeatTTL:     {"30s", "3s", "1m30s", "2m"},
	contract.DeregisterAfter:  {"2m", "1m", "24h"},
	contract.Gate:             {"passing", "registered", "off"},
	contract.GateTimeout:      {"5m", "never", "1ms", "24h"},
	contract.GatePolicy:       {"once", "continuous"},
	contract.Readiness:        {"start", "kubelet", "probe"},
	contract.Placement:        {"auto", "container", "sidecar"},
	contract.DrainDelay:       {"5s", "0", "0s", "24h"},
	contract.DrainTimeout:     {"10s", "1ms", "24h"},
	contract.DrainHook:        {"true", "false", "chain"},
	contract.AgentletPort:     {"19500", "1024", "65535"},
	contract.CPURequest:       {"5m", "0", "1m", "0.5"},
	contract.MemoryRequest:    {"16Mi", "8Mi", "64Mi"},
	contract.CPULimit:         {"100m", "0", "2"},
	contract.MemoryLimit:      {"64Mi", "0", "16Mi", "1Gi"},
	contract.LocalAPI:         {"enabled", "disabled"},
	contract.ConnectInject:    {"false"}, // true needs more than itself: TestConnect
	contract.LogLevel:         {"debug", "info", "warn", "error"},
}

func TestEveryKeysGoodValues(t *testing.T) {
	for _, key := range contract.Keys() {
		if !strings.HasPrefix(key.Where, "pod ") {
			continue
		}
		if len(goodValues[key.Name]) == 0 {
			t.Errorf("%s is tried with no good value", key.Name)
		}
		for _, value := range goodValues[key.Name] {
			t.Run(key.Name+"="+value, func(t *testing.T) {
				pod := newPod(nil)
				if key.Name != contract.Services {
					pod.Annotations[contract.ServiceNames] = "web"
				}
				pod.Annotations[key.Name] = value
				if _, errs := Parse(pod, nil); len(errs) > 0 {
					t.Error(errs.ToAggregate())
				}
			})
		}
	}
}

// TestEveryKey holds that every key of the contract is read: a bad value of it is an error under its own path, and
// nothing else is.
func TestEveryKey(t *testing.T) {
	for _, key := range contract.Keys() {
		if !strings.HasPrefix(key.Where, "pod ") {
			continue
		}
		values, ok := badValues[key.Name]
		if !ok {
			t.Errorf("%s is tried with no bad value", key.Name)
		}
		for _, value := range values {
			t.Run(key.Name+"="+value, func(t *testing.T) {
				pod := newPod(nil)
				if key.Name != contract.Services {
					pod.Annotations[contract.ServiceNames] = "web"
				}
				pod.Annotations[key.Name] = value
				_, errs := Parse(pod, nil)
				if len(errs) == 0 {
					t.Fatal("no error")
				}
				for _, err := range errs {
					if want := annotation(key.Name).String(); len(err.Field) < len(want) || err.Field[:len(want)] != want {
						t.Errorf("error at %s, want %s", err.Field, want)
					}
				}
			})
		}
	}
}

func TestConflicts(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		want        string
	}{
		"reaped between two heartbeats": {
			annotations{"heartbeat-ttl": "3m"},
			`deregister-after]: Invalid value: "2m": must not be less than agentlet.dev/heartbeat-ttl (3m)`,
		},
		"memory": {
			annotations{"memory-request": "65Mi"},
			`memory-request]: Invalid value: "65Mi": must not be more than agentlet.dev/memory-limit (64Mi)`,
		},
		"cpu": {annotations{"cpu-request": "1", "cpu-limit": "10m"}, "cpu-request]"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			pod.Annotations[contract.ServiceNames] = "web"
			wantErrors(t, pod, test.want)
		})
	}
}

func TestValidateDefaults(t *testing.T) {
	path := field.NewPath("defaults")
	good := Defaults{
		"drain-delay": "7s", "service-port": "http", "service-tags": "k8s", "service-meta": "a:b",
		"service-health": "passing", "tags-from-labels": "role", "meta-from-labels": "role", "memory-limit": "0",
	}
	if errs := ValidateDefaults(path, good); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
	for key, test := range map[string]struct{ value, want string }{
		"drain-dealy":      {"5s", `defaults[drain-dealy]: Invalid value: "5s": unknown key; did you mean "drain-delay"?`},
		"service-port.web": {"1", "unknown key"},
		"service-names":    {"web", "defaults[service-names]: Forbidden"},
		"services":         {"[]", "Forbidden"},
		"inject":           {"false", "Forbidden"},
		"drain-delay":      {"5", `defaults[drain-delay]: Invalid value: "5": must be a duration such as 5s`},
		"service-port":     {"0", "must be a port number"},
		"service-meta":     {"a", "has no colon"},
		"heartbeat-ttl":    {"5m", "defaults[deregister-after]"},
		"memory-request":   {"1Gi", "must not be more than agentlet.dev/memory-limit (64Mi)"},
	} {
		t.Run(key, func(t *testing.T) {
			errs := ValidateDefaults(path, Defaults{key: test.value})
			if len(errs) != 1 {
				t.Fatalf("%d errors, want 1: %v", len(errs), errs.ToAggregate())
			}
			if got := errs[0].Error(); !strings.Contains(got, test.want) {
				t.Errorf("error\n%s\nwithout %q", got, test.want)
			}
		})
	}
}

func TestAgentletPort(t *testing.T) {
	for _, test := range []struct {
		annotations annotations
		defaults    Defaults
		port        int
		ok          bool
	}{
		{nil, nil, 19500, true},
		{nil, Defaults{"agentlet-port": "2000"}, 2000, true},
		{annotations{"agentlet-port": "3000", "gate": "?"}, nil, 3000, true},
		{annotations{"agentlet-port": "80"}, nil, 0, false},
	} {
		if port, _, ok := AgentletPort(newPod(test.annotations), test.defaults); port != test.port || ok != test.ok {
			t.Errorf("%v, %v: %d, %t", test.annotations, test.defaults, port, ok)
		}
	}
}

func TestLocalAPIIsNotForHostNetwork(t *testing.T) {
	for value, wrong := range map[string]bool{"enabled": true, "disabled": false} {
		pod := newPod(annotations{"service-names": "web", "local-api": value})
		pod.Spec.HostNetwork = true
		_, errs := Parse(pod, nil)
		if wrong != (len(errs) == 1) {
			t.Errorf("local-api=%s with hostNetwork: %v", value, errs)
		}
		if wrong && (errs[0].Field != annotation(contract.LocalAPI).String() || !strings.Contains(errs[0].Detail, "not with hostNetwork")) {
			t.Errorf("the error is %v", errs[0])
		}
	}
	if Defaultable(contract.LocalAPI) {
		t.Error("an installation could turn the local API on for pods that did not ask for it")
	}
}

func TestHeartbeatThatOutlivesThePod(t *testing.T) {
	for name, test := range map[string]struct {
		ttl, inherited string // of the pod, and of the installation
		grace          *int64
		want           string // empty: no warning
	}{
		"the defaults":                {"", "", nil, ""},
		"as long":                     {"60s", "", new(int64(60)), ""},
		"longer":                      {"61s", "", new(int64(60)), "agentlet.dev/heartbeat-ttl 1m1s is longer than terminationGracePeriodSeconds 60: if the agentlet hangs, Consul shows the pod as passing for up to 1s after"},
		"longer than Kubernetes' own": {"1m", "", nil, "terminationGracePeriodSeconds 30: if the agentlet hangs, Consul shows the pod as passing for up to 30s after"},
		"the installation's":          {"", "2m", nil, "heartbeat-ttl 2m is longer"},
		"the pod's before it":         {"30s", "2m", nil, ""},
		"the contract's":              {"", "", new(int64(20)), "heartbeat-ttl 30s is longer than terminationGracePeriodSeconds 20"},
		"no grace":                    {"3s", "", new(int64(0)), "for up to 3s after"},
		"a negative one":              {"3s", "", new(int64(math.MinInt64)), "terminationGracePeriodSeconds 1: if the agentlet hangs, Consul shows the pod as passing for up to 2s after"},
		"one without an end":          {"24h", "", new(int64(math.MaxInt64)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotations{"service-names": "web", "deregister-after": "24h", "drain-delay": "0s"})
			pod.Spec.TerminationGracePeriodSeconds = test.grace
			if test.ttl != "" {
				pod.Annotations[contract.HeartbeatTTL] = test.ttl
			}
			defaults := Defaults{}
			if test.inherited != "" {
				defaults["heartbeat-ttl"] = test.inherited
			}
			_, warnings := mustParse(t, pod, defaults)
			if test.want == "" {
				wantWarnings(t, warnings)
			} else {
				wantWarnings(t, warnings, test.want)
			}
		})
	}
}
