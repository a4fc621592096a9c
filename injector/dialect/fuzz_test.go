package dialect

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// FuzzTranslate checks a translation of any annotations. It changes none of them, and adds only keys of the contract that the pod
// doesn't have. It is deterministic and idempotent. Every error names an annotation.
func FuzzTranslate(f *testing.F) {
	f.Add("web,api", "8080", `a\,b`, "k:v", "20s", "3", "true", "service-port-web", "x")
	f.Add("", "", "", "", "", "", "", "", "")
	f.Add("a", "0x1F", ",", "\x00", "-1s", "1e3", "?", "service-", "\"")
	f.Fuzz(func(t *testing.T, names, port, tags, meta, ttl, weight, sync, key, value string) {
		for _, pod := range []annotations{
			{"service-names": names, "service-port": port, "service-tags": tags, "service-meta": meta, "service-check-ttl": ttl, "sidecar": weight, "container-exclude": sync, key: value},
			{consulName: names, consulPort: port, consulTags: tags, consulMeta + key: value, consulWeight: weight, consulSync: sync},
			{consulName: names, consulMeta + "a": meta, "service-names": value, contract.Prefix + key: value},
			{consulPrefix + key: value, connectInject: sync},
		} {
			checkTranslation(t, pod)
		}
	})
}

func checkTranslation(t *testing.T, of annotations) {
	t.Helper()
	pod := of.pod()
	before := maps.Clone(pod.Annotations)
	first, once := read(pod, All()...)
	if !maps.Equal(before, pod.Annotations) {
		t.Error("the annotations have changed")
	}
	for key := range first.Annotations {
		if !strings.HasPrefix(key, contract.Prefix) {
			t.Errorf("%q is no key of the contract", key)
		}
		if _, there := pod.Annotations[key]; there {
			t.Errorf("%q was there", key)
		}
	}
	second, _ := read(pod, All()...)
	if diff := cmp.Diff(first.Annotations, second.Annotations); diff != "" {
		t.Errorf("another translation the second time:\n%s", diff)
	}
	if _, twice := read(once, All()...); cmp.Diff(once, twice) != "" {
		t.Errorf("translated twice:\n%s", cmp.Diff(once, twice))
	}
	_, _, errs := registration.Lint(once, nil, first.Origins)
	for _, err := range first.MapErrors(append(first.Errors, errs...)) {
		if len(err.Field) < len("metadata.annotations") || err.Detail == "" && err.BadValue == nil {
			t.Errorf("error %v", err)
		}
	}
}
