package contract

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if !strings.HasPrefix(k.Name, Prefix) || k.Form == "" || k.Doc == "" {
			t.Errorf("%+v lacks its prefix, form or sentence", k)
		}
		if id := k.Where + k.Name; seen[id] {
			t.Errorf("%s %s is there twice", k.Where, k.Name)
		} else {
			seen[id] = true
		}
		// A key's name part may have 63 characters.
		if k.PerService && len(Short(k.Name))+1+MaxPerServiceName > 63 {
			t.Errorf("%s.NAME does not fit a name of %d characters", k.Name, MaxPerServiceName)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, test := range []struct {
		key, name, service string
		ok                 bool
	}{
		{ServicePort, ServicePort, "", true},
		{ServicePort + ".web", ServicePort, "web", true},
		{ServicePort + ".a.b", ServicePort, "a.b", true},
		{InjectLabel, InjectLabel, "", true},
		{ServicePort + ".", "", "", false},
		{Gate + ".web", "", "", false},
		{AllowedServices, "", "", false},
		{Prefix + "nothing", "", "", false},
		{"gate", "", "", false},
	} {
		k, service, ok := Lookup(test.key)
		if k.Name != test.name || service != test.service || ok != test.ok {
			t.Errorf("Lookup(%q) = %q, %q, %t", test.key, k.Name, service, ok)
		}
	}
}

// TestNamespaceKeys holds which kinds of keys are read from a namespace's annotations, and that no others are kept of them.
func TestNamespaceKeys(t *testing.T) {
	all, want := map[string]string{"example.com/a": "", Gate + ".web": "", Prefix + "nothing": ""}, []string{}
	for _, k := range Keys() {
		all[k.Name] = "x"
		if strings.Contains(k.Where, "namespace annotation") {
			want = append(want, k.Name)
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(NamespaceAnnotations(all))); !slices.Equal(got, want) || !slices.Contains(got, AllowedTags) || !slices.Contains(got, Readiness) {
		t.Errorf("kept: %q, want %q", got, want)
	}
	if NamespaceAnnotations(map[string]string{ServiceNames: "web"}) != nil {
		t.Error("something is kept of a namespace without such annotations")
	}
	for key := range all {
		if k, ok := LookupNamespace(key); ok != slices.Contains(want, key) || ok && k.Name != key {
			t.Errorf("LookupNamespace(%q) = %q, %t", key, k.Name, ok)
		}
	}
}

func TestIDs(t *testing.T) {
	id := ServiceID("shop", "web-0", "01234567-89ab", "web")
	if want := "agentlet_shop_web-0_01234567_web"; id != want {
		t.Errorf("ID %q, want %q", id, want)
	}
	proxy := ProxyID("shop", "web-0", "01234567-89ab", "web")
	if want := "agentlet_shop_web-0_01234567-89ab_web-sidecar-proxy"; proxy != want {
		t.Errorf("proxy's ID %q, want %q", proxy, want)
	}
	for _, id := range []string{id, proxy} {
		if prefix := ServicePrefix("shop", "web-0", "01234567-89ab"); !strings.HasPrefix(id, prefix) {
			t.Errorf("ID %q without the prefix %q", id, prefix)
		}
	}
	for _, check := range []string{HeartbeatID(id), ReadinessID(id), CheckID(id, 0)} {
		if !strings.HasPrefix(check, id+":") || strings.Contains(check, "/") {
			t.Errorf("check ID %q", check)
		}
	}
	if got := ServicePrefix("shop", "web-0", "short"); got != "agentlet_shop_web-0_short" {
		t.Errorf("prefix %q", got)
	}
	if keys := MetaKeys(); len(slices.Compact(slices.Sorted(slices.Values(keys)))) != len(keys) {
		t.Errorf("meta keys %q hold one twice", keys)
	}
}

// TestEachReasonOfAClosedGateIsAnEvent: `kubectl describe pod` shows events, and of conditions no reason.
func TestEachReasonOfAClosedGateIsAnEvent(t *testing.T) {
	for _, r := range Reasons() {
		told := slices.ContainsFunc(Events(), func(e Event) bool { return e.Reason == r })
		if ends := r == Draining; told == ends { // Drained and DrainTimedOut tell the end
			t.Errorf("%s: there is an event: %v", r, told)
		}
	}
}
