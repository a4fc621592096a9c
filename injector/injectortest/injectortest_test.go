package injectortest

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// before is a pod with everything that an injection may change or has to keep.
const before = `{
	"metadata": {"annotations": {"a": "b", "config.linkerd.io/skip-inbound-ports": "25"}},
	"spec": {
		"containers": [
			{"name": "web", "image": "web:1", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}},
			{"name": "log", "image": "log:1"}
		],
		"volumes": [{"name": "data"}]
	}
}`

// TestNotAdded has injections that are right, and injections that are wrong, whose words are said.
func TestNotAdded(t *testing.T) {
	drainHook := func(own *corev1.LifecycleHandler) string {
		text, err := json.Marshal(corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: registration.DrainPath(own), Port: intstr.FromInt32(19500), HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: "n"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	hook, chained := drainHook(nil), drainHook(&corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}})
	for name, test := range map[string]struct {
		patch string
		want  string // empty: it is right
	}{
		"nothing": {`[]`, ""},
		"all that is added": {`[
			{"op": "add", "path": "/spec/containers/2", "value": {"name": "` + contract.ContainerName + `"}},
			{"op": "add", "path": "/spec/volumes/1", "value": {"name": "` + contract.VolumeName + `"}},
			{"op": "add", "path": "/spec/readinessGates", "value": [{"conditionType": "` + contract.Condition + `"}]},
			{"op": "add", "path": "/metadata/annotations/agentlet.dev~1service-names", "value": "web"},
			{"op": "add", "path": "/spec/containers/1/lifecycle", "value": {"preStop": ` + hook + `}}
		]`, ""},
		"ports behind a mesh's own": {`[{"op": "add", "path": "/metadata/annotations/config.linkerd.io~1skip-inbound-ports", "value": "25,19500"}]`, ""},
		"a mesh's own are lost":     {`[{"op": "add", "path": "/metadata/annotations/config.linkerd.io~1skip-inbound-ports", "value": "19500"}]`, `skip-inbound-ports had "25", and has "19500"`},
		"a mesh's list is lost":     {`[{"op": "remove", "path": "/metadata/annotations/config.linkerd.io~1skip-inbound-ports"}]`, `skip-inbound-ports had "25", and has ""`},
		"a value is changed":        {`[{"op": "add", "path": "/spec/containers/0/image", "value": "web:2"}]`, "/spec/containers has changed"},
		"an annotation is lost":     {`[{"op": "remove", "path": "/metadata/annotations/a"}]`, "/metadata/annotations/a has changed"},
		"the order is changed": {`[
			{"op": "remove", "path": "/spec/containers/0"},
			{"op": "add", "path": "/spec/containers/1", "value": {"name": "web", "image": "web:1", "lifecycle": {"preStop": {"sleep": {"seconds": 3}}}}}
		]`, "/spec/containers has changed"},
		"another annotation": {`[{"op": "add", "path": "/metadata/annotations/c", "value": "d"}]`, "more than the injected pieces"},
		"another container":  {`[{"op": "add", "path": "/spec/containers/2", "value": {"name": "other"}}]`, "more than the injected pieces"},
		"another field":      {`[{"op": "add", "path": "/spec/hostNetwork", "value": true}]`, "more than the injected pieces"},
		"another hook": {
			`[{"op": "add", "path": "/spec/containers/1/lifecycle", "value": {"preStop": {"sleep": {"seconds": 1}}}}]`, "more than the injected pieces",
		},
		"an own hook is chained": {`[{"op": "add", "path": "/spec/containers/0/lifecycle/preStop", "value": ` + chained + `}]`, ""},
		"another own hook is chained": {
			`[{"op": "add", "path": "/spec/containers/0/lifecycle/preStop", "value": ` + strings.Replace(chained, "3", "4", 1) + `}]`,
			"/spec/containers has changed",
		},
		"an own hook is lost": {
			`[{"op": "add", "path": "/spec/containers/0/lifecycle/preStop", "value": ` + hook + `}]`, "/spec/containers has changed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := NotAdded([]byte(before), Apply(t, []byte(before), []byte(test.patch)))
			if (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
