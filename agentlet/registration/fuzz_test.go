package registration

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// FuzzParse holds that no annotation makes Parse panic, that a registration comes exactly without errors, that Lint reads
// the same, and that what a registration holds is within the contract's and Consul's bounds.
func FuzzParse(f *testing.F) {
	f.Add("web,api", "http", `v1,a\,b`, "team:core", "role", "zone=topology.kubernetes.io/zone", "10s")
	f.Add("Web", "65535", "", "", "a/b,c", "a.b", "1h")
	f.Add(",", "0", ",", ":", "=", "=", "-1ns")
	f.Add("agentlet.dev/]", "1", "", "", "", "", "5s")
	f.Add("worker", "none", "", "", "", "", "5s")
	f.Add("web,consul", "http", "urlprefix-/", "", "app", "", "never")
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
		"- {name: Consul, tags: [urlprefix-/, urlprefix-/], connect: {sidecar_service: {tags: [traefik.enable=true]}}}",
		"- {name: a, ports: [{name: http, port: http, default: true}, {name: x_y, port: 1}], checks: [{http: 'http://:x_y/', interval: 1s}, {udp: ':http', interval: 1s}]}",
		"- {name: a, address: '${HOST_IP}', ports: [{name: a, port: 8080, default: true}, {name: A, port: metrics}], checks: [{h2ping: ':a', interval: 1s}]}",
		"- {name: a, port: none, tagged_addresses: {lan: {}}, checks: [{http: /, interval: 1s}], connect: {native: true}}",
		"- &a {name: a}\n- *a\n---\n- <<: *a",
		"- {name: a, checks: [{name: \"a\\eb\", body: \"a\\nb\", http: \"/\\u202e\", interval: 1s, header: {\"\\x7f\": [\"\\r\"]}}], tags: [\"\\u2028\"]}",
		"- {name: a, meta: {\"\\0\": \"\\x85\"}, \"\\n\": x, connect: {sidecar_service: {\"\\b\": 1, tags: [\"\\a\"], proxy: {upstreams: [{datacenter: \"\\e\"}]}}}}",
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
	reg, errs := Parse(pod, nil)
	if (reg == nil) != (len(errs) > 0) {
		t.Fatalf("registration %v beside errors %v", reg, errs.ToAggregate())
	}
	checkLint(t, pod, reg, errs)
	for _, err := range errs {
		if HasControl(err.Error()) {
			t.Errorf("the error %q is more than a line of text", err.Error())
		}
	}
	if reg == nil {
		return
	}
	if len(reg.Services) == 0 {
		t.Error("no service")
	}
	eachText(t, reg.Services)
	seen := map[string]bool{}
	for _, s := range reg.Services {
		if seen[strings.ToLower(s.Name)] {
			t.Errorf("%q is there twice", s.Name)
		}
		seen[strings.ToLower(s.Name)] = true
		checkService(t, s)
	}
	if asked := reg.tagsAsked(); !reflect.DeepEqual(asked, reg.tagsRegistered()) {
		t.Errorf("judged are the tags %q, and registered %q", asked, reg.tagsRegistered())
	}
	if s := reg.Settings; s.DeregisterAfter < s.HeartbeatTTL || s.DrainDelay < 0 || s.AgentletPort < 1024 {
		t.Errorf("settings %+v", s)
	}
}

// checkLint holds that Lint reads a pod as Parse does, and that a warning's field is in the pod.
func checkLint(t *testing.T, pod *corev1.Pod, reg *Registration, errs field.ErrorList) {
	t.Helper()
	linted, warnings, told := Lint(pod, nil, nil)
	if len(told) == 0 && !reflect.DeepEqual(linted, reg) {
		t.Errorf("Lint reads %+v, Parse %+v", linted, reg)
	}
	at := func(errs field.ErrorList) (fields []string) {
		for _, err := range errs {
			fields = append(fields, err.Field)
		}
		return fields
	}
	if !slices.Equal(at(told), at(errs)) {
		t.Errorf("Lint finds %v, Parse %v", told.ToAggregate(), errs.ToAggregate())
	}
	for _, warning := range warnings {
		there := !strings.HasPrefix(warning.Field, "metadata.annotations[")
		for key := range pod.Annotations { // which may hold a bracket themselves
			there = there || strings.HasPrefix(warning.Field, annotation(key).String())
		}
		if !there {
			t.Errorf("the warning %q is about %s", warning.Message, warning.Field)
		}
	}
}

// tagsAsked are the tags that are judged, and tagsRegistered those that Consul gets, sorted and once each.
func (r *Registration) tagsAsked() (tags []string) {
	for _, asked := range r.asked {
		tags = append(tags, asked.tag)
	}
	return sorted(tags)
}

func (r *Registration) tagsRegistered() (tags []string) {
	for i := range r.Services {
		tags = append(tags, r.Services[i].Tags...)
		if r.Services[i].Sidecar != nil {
			tags = append(tags, r.Services[i].ProxyInstance().Tags...)
		}
	}
	return sorted(tags)
}

func sorted(tags []string) []string {
	slices.Sort(tags)
	return slices.Compact(tags)
}

// eachText holds that nothing that is registered has a control character, but for line breaks and tabs in bodies.
func eachText(t *testing.T, services []Service) {
	t.Helper()
	services = slices.Clone(services)
	for i := range services {
		s := &services[i]
		s.Checks = slices.Clone(s.Checks)
		for k := range s.Checks {
			s.Checks[k].Body = strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(s.Checks[k].Body)
		}
	}
	if text := fmt.Sprintf("%+v", services); HasControl(text) {
		t.Errorf("%q", text)
	}
	for _, s := range services {
		if s.Sidecar != nil {
			if text := fmt.Sprintf("%+v", *s.Sidecar); HasControl(text) {
				t.Errorf("%q", text)
			}
		}
	}
}

func checkService(t *testing.T, s Service) {
	t.Helper()
	if !namePattern.MatchString(s.Name) || len(s.Name) > contract.MaxServiceName || strings.EqualFold(s.Name, "consul") {
		t.Errorf("name %q", s.Name)
	}
	if s.Port < 0 || s.Port > 65535 {
		t.Errorf("port %d", s.Port)
	}
	defaults := 0
	for _, p := range s.Ports {
		if p.Port < 1 || p.Port > 65535 || !portNamePattern.MatchString(p.Name) || p.Default && p.Port != s.Port {
			t.Errorf("named port %+v beside port %d", p, s.Port)
		}
		if p.Default {
			defaults++
		}
	}
	if s.Ports != nil && defaults != 1 || s.Port == 0 && (s.Native || s.Sidecar != nil) {
		t.Errorf("port %d, %d default ones of %v, in the mesh: %v, %+v", s.Port, defaults, s.Ports, s.Native, s.Sidecar)
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
		if !slices.Contains(addresses, a.Address) || a.Port < 0 || a.Port > 65535 || a.Port == 0 && s.Port != 0 {
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
	for _, target := range []string{c.TCP, c.UDP, c.GRPC, c.H2PING} {
		if target != "" {
			targets++
			port, _, _ := strings.Cut(strings.TrimPrefix(target, ":"), "/")
			if _, err := parsePort(port); err != nil || !strings.HasPrefix(target, ":") {
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
		reg, errs := Parse(pod, nil)
		if (reg == nil) != (len(errs) > 0) {
			t.Fatalf("registration %v beside errors %v", reg, errs.ToAggregate())
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

// FuzzGlobs holds that every list of globs is refused, or else comes out as it went in and can be matched with: what is allowed
// matches no glob that denies, and one of the others if there are any, as a regular expression says it; spaces around it don't
// count.
func FuzzGlobs(f *testing.F) {
	f.Add("*", "web")
	f.Add("team-a-*, web?,API", "Team-A-x")
	f.Add(`a\,b,[a-z]`, "a")
	f.Add(strings.Repeat("a*", 40), strings.Repeat("a", 60))
	f.Add("!urlprefix-*,!traefik.*", " urlprefix-example.com/\tproto=tcp ")
	f.Add(`v*,!v1?,!x\`, "v1é")
	f.Fuzz(func(t *testing.T, text, tag string) {
		globs, err := ParseTagGlobs(text, "a test")
		if err != nil {
			if globs.globs != nil {
				t.Errorf("globs %s beside %v", globs, err)
			}
			return
		}
		if n := len(globs.globs); n == 0 || n > maxGlobs {
			t.Errorf("%d globs", n)
		}
		if again, err := ParseTagGlobs(globs.String(), "a test"); err != nil || !reflect.DeepEqual(again, globs) {
			t.Errorf("%q becomes %q: %v", globs, again, err)
		}
		allowed, only := false, false
		folded := strings.ToLower(strings.TrimSpace(tag))
		for _, g := range globs.globs {
			pattern := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(g.folded))
			matched := regexp.MustCompile(`(?s)^(?:` + pattern + `)$`).MatchString(folded)
			if matched && g.denies {
				allowed, only = false, true
				break
			}
			allowed, only = allowed || matched, only || !g.denies
		}
		if got := globs.Refusal(tag) == ""; got != (allowed || !only) {
			t.Errorf("%q is allowed by %q: %v", tag, globs, got)
		}
		if globs.All() && globs.Refusal(tag) != "" {
			t.Errorf("%q is refused by what allows everything", tag)
		}
	})
}
