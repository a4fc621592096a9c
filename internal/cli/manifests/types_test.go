package manifests

import (
	"encoding/json"
	"reflect"
	"testing"

	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/injector/workload"
)

// TestMismatchesAreErrors holds that what the decoder reads has no value of a wrong type, so that nobody has to look for one: each
// value of a pod is replaced by others.
func TestMismatchesAreErrors(t *testing.T) {
	const pod = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "generateName": "b", "labels": {"c": "d"}, "annotations": {"e": "f"}},
	"spec": {"restartPolicy": "Always", "hostNetwork": false, "terminationGracePeriodSeconds": 30, "os": {"name": "linux"}, "nodeSelector": {"a": "b"},
	"readinessGates": [{"conditionType": "a"}], "imagePullSecrets": [{"name": "a"}], "resources": {"limits": {"cpu": 1, "memory": "1Mi"}},
	"volumes": [{"name": "a", "projected": {}, "emptyDir": {}}], "initContainers": [{"name": "a"}],
	"containers": [{"name": "a", "args": ["b"], "env": [{"name": "a", "value": "b", "valueFrom": {}}],
	"ports": [{"name": "a", "containerPort": 80, "hostPort": 81, "protocol": "TCP"}], "restartPolicy": "Always",
	"readinessProbe": {"httpGet": {"path": "/", "port": "a", "httpHeaders": [{"name": "a", "value": "b"}]}, "periodSeconds": 1},
	"lifecycle": {"preStop": {"exec": {"command": ["a"]}, "sleep": {"seconds": 1}}},
	"securityContext": {"windowsOptions": {"hostProcess": true}}, "resources": {"requests": {"cpu": "1", "memory": 5}}}]}}`
	others := []string{
		`null`, `true`, `"a"`, `"5"`, `"true"`, `5`, `-1`, `1.0`, `1.5`, `1e3`, `99999999999`, `99999999999999999999`, `[]`, `[null]`, `["a"]`, `[5]`, `{}`,
		`{"a": null}`, `{"a": "b"}`, `{"a": 5}`, `{"name": 5}`, `[{"name": 5}]`,
	}
	tried, mistyped := 0, 0
	check := func(raw []byte, into reflect.Type) {
		err := kjson.UnmarshalCaseSensitivePreserveInts(raw, reflect.New(into).Interface())
		found := mismatches(raw, into)
		if tried++; err != nil {
			mistyped++
		} else if len(found) > 0 {
			t.Errorf("%s: %v, and no error", raw, found)
		}
	}
	var replaceIn func(value any, whole func() []byte)
	replaceIn = func(value any, whole func() []byte) {
		each := func(inner any, set func(any)) {
			for _, other := range others {
				set(json.RawMessage(other))
				for _, into := range []reflect.Type{reflect.TypeFor[object](), reflect.TypeFor[workload.PodFields]()} {
					check(whole(), into)
				}
			}
			set(inner)
			replaceIn(inner, whole)
		}
		switch value := value.(type) {
		case map[string]any:
			for key, inner := range value {
				each(inner, func(v any) { value[key] = v })
			}
		case []any:
			for i, inner := range value {
				each(inner, func(v any) { value[i] = v })
			}
		}
	}
	value, err := decodeJSON([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	replaceIn(value, func() []byte {
		raw, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	})
	if tried < 2000 || mistyped < tried/4 {
		t.Errorf("%d of %d are errors: too few to show anything", mistyped, tried)
	}
}
