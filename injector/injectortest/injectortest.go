// Package injectortest checks what holds for every injection. Only tests use it.
package injectortest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Apply applies a JSON patch as the API server does.
func Apply(t testing.TB, raw, patch []byte) []byte {
	t.Helper()
	decoded, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := decoded.Apply(raw)
	if err != nil {
		t.Fatalf("apply %s: %v", patch, err)
	}
	return patched
}

// CheckAdditions checks an injected pod against the pod as it was.
func CheckAdditions(t testing.TB, raw, injected []byte) {
	t.Helper()
	if wrong := NotAdded(raw, injected); wrong != "" {
		t.Error(wrong)
	}
}

// NotAdded returns what an injection did to a pod beside adding its own parts: what is lost or changed, or was added beyond them.
// It is empty for an injection that is right.
func NotAdded(raw, injected []byte) (wrong string) {
	before, err := generic(raw)
	if err != nil {
		return err.Error()
	}
	after, err := generic(injected)
	if err == nil {
		err = unchain(injected, after)
	}
	if err != nil {
		return err.Error()
	}
	wrong = forgetBypasses(before, after)
	if where := missing(before, after, ""); where != "" {
		wrong += where + " has changed\n"
	}
	if diff := cmp.Diff(tidy(before), tidy(stripped(before, after))); diff != "" {
		wrong += "more than the injected pieces was added (-before +after):\n" + diff
	}
	return wrong
}

// bypasses are the annotations of other service meshes to whose lists an injection appends ports.
var bypasses = []string{
	"traffic.sidecar.istio.io/excludeInboundPorts", "traffic.sidecar.istio.io/excludeOutboundPorts",
	"config.linkerd.io/skip-inbound-ports", "config.linkerd.io/skip-outbound-ports",
}

// forgetBypasses removes what was appended to the lists of other service meshes, and says which of them has lost something.
func forgetBypasses(before, after any) (wrong string) {
	annotations, old := object(object(after, "metadata"), "annotations"), object(object(before, "metadata"), "annotations")
	for _, key := range bypasses {
		had, there := old[key].(string)
		if has, _ := annotations[key].(string); !strings.HasPrefix(has, had) {
			wrong += fmt.Sprintf("%s had %q, and has %q\n", key, had, has)
		}
		if delete(annotations, key); there {
			annotations[key] = had
		}
	}
	return wrong
}

// unchain puts the containers' own hooks back that their drain hooks hold.
func unchain(injected []byte, after any) error {
	var pod corev1.Pod
	if err := json.Unmarshal(injected, &pod); err != nil {
		return err
	}
	containers, _ := object(after, "spec")["containers"].([]any)
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		own := registration.OwnHook(c)
		if own == nil || !registration.IsDrainHook(c.Lifecycle.PreStop) {
			continue
		}
		text, err := json.Marshal(own)
		if err != nil {
			return err
		}
		hook, err := generic(text)
		if err != nil {
			return err
		}
		object(containers[i], "lifecycle")["preStop"] = hook
	}
	return nil
}

// missing returns the path of a value in before that is missing or different in after. Lists may have new items.
func missing(before, after any, path string) string {
	switch b := before.(type) {
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			return path
		}
		for key, value := range b {
			if where := missing(value, a[key], path+"/"+key); where != "" {
				return where
			}
		}
		return ""
	case []any:
		a, ok := after.([]any)
		if !ok {
			return path
		}
		at := 0
		for _, value := range b {
			for at < len(a) && missing(value, a[at], path) != "" {
				at++
			}
			if at == len(a) {
				return path
			}
			at++
		}
		return ""
	case nil:
		return "" // null may be replaced by a value
	default:
		if before != after {
			return path
		}
		return ""
	}
}

// stripped removes the injected parts that a patched pod didn't have before.
func stripped(before, after any) any {
	spec, had := object(after, "spec"), object(before, "spec")
	for _, piece := range []struct{ list, key, value string }{
		{"initContainers", "name", contract.ContainerName},
		{"containers", "name", contract.ContainerName},
		{"initContainers", "name", contract.ProxyContainerName},
		{"volumes", "name", contract.VolumeName},
		{"volumes", "name", contract.ProxyVolumeName},
		{"volumes", "name", contract.ProxyScratchName},
		{"volumes", "name", contract.ProxyTokenName},
		{"readinessGates", "conditionType", contract.Condition},
	} {
		is := func(item any) bool { return item.(map[string]any)[piece.key] == piece.value }
		list, _ := spec[piece.list].([]any)
		if old, _ := had[piece.list].([]any); !slices.ContainsFunc(old, is) {
			spec[piece.list] = slices.DeleteFunc(list, is)
		}
	}
	annotations, old := object(object(after, "metadata"), "annotations"), object(object(before, "metadata"), "annotations")
	for key := range annotations {
		if _, ok := old[key]; !ok && strings.HasPrefix(key, contract.Prefix) {
			delete(annotations, key)
		}
	}
	containers, _ := spec["containers"].([]any)
	containersBefore, _ := had["containers"].([]any)
	for i := range min(len(containers), len(containersBefore)) {
		lifecycle := object(containers[i], "lifecycle")
		if object(containersBefore[i], "lifecycle")["preStop"] == nil && isDrainHook(lifecycle["preStop"]) {
			delete(lifecycle, "preStop")
		}
	}
	return after
}

func isDrainHook(hook any) bool {
	text, err := json.Marshal(hook)
	var handler corev1.LifecycleHandler
	return err == nil && json.Unmarshal(text, &handler) == nil && registration.IsDrainHook(&handler)
}

func object(of any, key string) map[string]any {
	o, _ := of.(map[string]any)[key].(map[string]any)
	return o
}

// tidy drops null and empty lists and objects, because patching may leave or fill them.
func tidy(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if value = tidy(value); value == nil {
				delete(v, key)
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = tidy(v[i])
		}
	}
	return v
}

// generic decodes JSON into maps and lists, and keeps the text of numbers.
func generic(raw []byte) (v any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	err = decoder.Decode(&v)
	return v, err
}
