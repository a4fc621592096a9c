package registration

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// FuzzParse holds that no annotation makes Parse panic, that a registration comes exactly without mistakes, and that
// what a registration holds is within the contract's and Consul's bounds.
func FuzzParse(f *testing.F) {
	f.Add("web,api", "http", `v1,a\,b`, "team:core", "role", "zone=topology.kubernetes.io/zone", "10s")
	f.Add("Web", "65535", "", "", "a/b,c", "a.b", "1h")
	f.Add(",", "0", ",", ":", "=", "=", "-1ns")
	f.Fuzz(func(t *testing.T, names, port, tags, meta, tagLabels, metaLabels, duration string) {
		pod := newPod(annotations{
			"service-names": names, "service-port": port, "service-tags": tags, "service-meta": meta,
			"tags-from-labels": tagLabels, "meta-from-labels": metaLabels, "drain-delay": duration, names: port,
		})
		checkParsed(t, pod.Annotations)
	})
}

// FuzzParseStructured is FuzzParse for the structured form.
func FuzzParseStructured(f *testing.F) {
	for _, seed := range []string{
		"- name: web",
		"- {name: web, port: http, tags: [1.10], meta: {a: b}, weights: {passing: 1}, address: '${POD_IP}'}",
		"- name: web\n  tagged_addresses: {lan: {address: '${HOST_IP}', port: 80}}\n  checks:\n  - {http: /x, interval: 1s}\n",
		"- {name: a, checks: [{grpc: ':1/x', interval: 2s, timeout: 1s}, {tcp: ':1', interval: 1s}]}",
		"- {name: a, checks: [{http: 'http://${POD_IP}:80/', interval: 1s, header: {a: [b]}}]}",
		"- {name: a, connect: {sidecar_service: {port: 1, proxy: {config: {protocol: http}, upstreams: [{destination_name: b, local_bind_port: 2}]}}}}",
		"- {name: a, connect: {native: true, sidecar_service: {checks: [], meta: {a: b}, proxy: {local_service_address: ::1}}}}",
		"- &a {name: a}\n- *a\n---\n- <<: *a",
		"? [a]\n: b", "- !!binary aGk=", "\t", "{",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkParsed(t, map[string]string{contract.Services: text})
	})
}

func checkParsed(t *testing.T, values map[string]string) {
	t.Helper()
	pod := newPod(nil)
	pod.Annotations = values
	reg, _, errs := Parse(pod, nil)
	if (reg == nil) != (len(errs) > 0) {
		t.Fatalf("registration %v beside mistakes %v", reg, errs.ToAggregate())
	}
	if reg == nil {
		return
	}
	if len(reg.Services) == 0 {
		t.Error("no service")
	}
	seen := map[string]bool{}
	for _, s := range reg.Services {
		if seen[strings.ToLower(s.Name)] {
			t.Errorf("%q is there twice", s.Name)
		}
		seen[strings.ToLower(s.Name)] = true
		checkService(t, s)
	}
	if s := reg.Settings; s.DeregisterAfter < s.HeartbeatTTL || s.DrainDelay < 0 || s.AgentletPort < 1024 {
		t.Errorf("settings %+v", s)
	}
}

func checkService(t *testing.T, s Service) {
	t.Helper()
	if !namePattern.MatchString(s.Name) || len(s.Name) > contract.MaxServiceName {
		t.Errorf("name %q", s.Name)
	}
	if s.Port < 1 || s.Port > 65535 {
		t.Errorf("port %d", s.Port)
	}
	if slices.Contains(s.Tags, "") || len(unique(slices.Clone(s.Tags))) != len(s.Tags) {
		t.Errorf("tags %q", s.Tags)
	}
	for key, value := range s.Meta {
		if checkMeta(key, value) != nil {
			t.Errorf("meta %q: %q", key, value)
		}
	}
	addresses := []string{"", PodIP, HostIP}
	if !slices.Contains(addresses, s.Address) {
		t.Errorf("address %q", s.Address)
	}
	for tag, a := range s.TaggedAddresses {
		if !slices.Contains(addresses, a.Address) || a.Port < 1 || a.Port > 65535 {
			t.Errorf("tagged address %q: %v", tag, a)
		}
	}
	for _, c := range s.Checks {
		checkCheck(t, c)
	}
}

func checkCheck(t *testing.T, c Check) {
	t.Helper()
	targets := 0
	if c.HTTP != "" {
		targets++
		// Whoever sends the check puts the pod's IP before the port.
		scheme, rest, _ := strings.Cut(c.HTTP, "://")
		u, err := url.Parse(scheme + "://10.0.0.1" + rest)
		if err != nil || !strings.HasPrefix(rest, ":") || u.Hostname() != "10.0.0.1" || u.User != nil {
			t.Errorf("HTTP target %q: %v", c.HTTP, err)
		}
	}
	for _, target := range []string{c.TCP, c.GRPC} {
		if target != "" {
			targets++
			if !strings.HasPrefix(target, ":") {
				t.Errorf("target %q", target)
			}
		}
	}
	if targets != 1 || c.Interval < time.Second || c.Timeout < 0 || c.Timeout > c.Interval {
		t.Errorf("check %+v", c)
	}
}

// FuzzQuantities is FuzzParse for the agentlet's own requests and limits: they are never negative, and no request is above
// its limit.
func FuzzQuantities(f *testing.F) {
	f.Add("5m", "16Mi", "", "64Mi")
	f.Add("0", "1e3Mi", "1n", "0.1G")
	f.Add("-5m", "9223372036854775807Ei", "1E400", " 1")
	f.Fuzz(func(t *testing.T, cpu, memory, cpuLimit, memoryLimit string) {
		pod := newPod(annotations{
			"service-names": "web", "service-port": "80", "cpu-request": cpu, "memory-request": memory, "cpu-limit": cpuLimit, "memory-limit": memoryLimit,
		})
		reg, _, errs := Parse(pod, nil)
		if (reg == nil) != (len(errs) > 0) {
			t.Fatalf("registration %v beside mistakes %v", reg, errs.ToAggregate())
		}
		if reg == nil {
			return
		}
		r := reg.Settings.Resources
		for _, pair := range [][2]*resource.Quantity{{r.CPURequest, r.CPULimit}, {r.MemoryRequest, r.MemoryLimit}} {
			for _, q := range pair {
				if q != nil && q.Sign() < 0 {
					t.Errorf("quantity %s", q)
				}
			}
			if pair[0] != nil && pair[1] != nil && !pair[1].IsZero() && pair[0].Cmp(*pair[1]) > 0 {
				t.Errorf("request %s above limit %s", pair[0], pair[1])
			}
		}
	})
}

// FuzzAllowed holds that every list of globs is refused or can be matched with, whatever the name's case, and that what
// is allowed is allowed by one of its globs alone.
func FuzzAllowed(f *testing.F) {
	f.Add("*", "web")
	f.Add("team-a-*, web?,API", "Team-A-x")
	f.Add(`a\,b,[a-z]`, "a")
	f.Add(strings.Repeat("a*", 40), strings.Repeat("a", 60))
	f.Fuzz(func(t *testing.T, text, name string) {
		globs, err := ParseAllowed(text)
		if err != nil {
			if globs != nil {
				t.Errorf("globs %q beside %v", globs, err)
			}
			return
		}
		if len(globs) == 0 || len(globs) > maxGlobs {
			t.Errorf("%d globs", len(globs))
		}
		allowed := Allowed(name, globs)
		if allowed != slices.ContainsFunc(globs, func(glob string) bool { return Allowed(name, []string{glob}) }) {
			t.Errorf("%q: %v by all of %q, and otherwise by each", name, allowed, globs)
		}
		for _, glob := range globs {
			if literal := !strings.ContainsAny(glob, "*?"); literal && !Allowed(strings.ToUpper(glob), globs) {
				t.Errorf("%q doesn't allow itself", glob)
			}
		}
	})
}
