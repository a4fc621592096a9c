package workload

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// No decoded field may take more memory than its text: none is a quantity, also in later releases of Kubernetes' types, and none
// is of any type.
func TestFieldsHoldNoQuantities(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var look func(at string, of reflect.Type)
	look = func(at string, of reflect.Type) {
		switch {
		case of == reflect.TypeFor[resource.Quantity]():
			t.Errorf("%s is a quantity", at)
		case of.Kind() == reflect.Interface:
			t.Errorf("%s is of any type", at)
		}
		if seen[of] {
			return
		}
		seen[of] = true
		switch of.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array:
			look(at, of.Elem())
		case reflect.Map:
			look(at, of.Key())
			look(at, of.Elem())
		case reflect.Struct:
			for field := range of.Fields() {
				look(at+"."+field.Name, field.Type)
			}
		default:
		}
	}
	for _, of := range []reflect.Type{
		reflect.TypeFor[PodFields](), reflect.TypeFor[Object](), reflect.TypeFor[projected](), reflect.TypeFor[emptyDir](),
	} {
		look(of.Name(), of)
	}
}

func TestQuantities(t *testing.T) {
	for text, want := range map[string]string{
		`"250m"`: "250m", `"1"`: "1", `2`: "2", `0.5`: "500m", `"64Mi"`: "64Mi", `"1e3"`: "1e3", `1e3`: "1e3", `"12E"`: "12E", `"3Ei"`: "3Ei",
		`"1e-3"`: "1m", `"9223372036854775807n"`: "9223372036854775807n", `" 1 "`: "1", `null`: "0", `"1e+99"`: "1e99", `"-1"`: "-1",
		`"x"`: "", `""`: "", `{}`: "", `[1]`: "", `true`: "", `"\u0031"`: "",
		`"1e-999999999"`: "", `1e999999999`: "", `"1E+100"`: "", `"1e0000000003"`: "",
		`"` + strings.Repeat("1", maxQuantity) + `"`: "",
	} {
		pod, err := Pod(fmt.Appendf(nil, `{"spec":{"containers":[{"resources":{"limits":{"cpu":%s}}}]}}`, text))
		if want == "" {
			if err == nil || !strings.Contains(err.Error(), "spec.containers[0].resources.limits.cpu: Invalid value") ||
				!strings.Contains(err.Error(), "must be a quantity such as 250m or 64Mi") || len(err.Error()) > 250 {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		q, ok := pod.Spec.Containers[0].Resources.Limits[corev1.ResourceCPU]
		if w := resource.MustParse(want); !ok || q.Cmp(w) != 0 {
			t.Errorf("%s: %s, want %s", text, q.String(), want)
		}
	}
}

func TestEveryInvalidQuantityIsReported(t *testing.T) {
	const far = `"1e-999999999"`
	_, err := Pod([]byte(`{"spec":{"resources":{"limits":{"memory":` + far + `}},"initContainers":[{},{"resources":{"requests":{"cpu":` + far + `}}}],` +
		`"volumes":[{"name":"agentlet-proxy-tmp","emptyDir":{"sizeLimit":` + far + `}},{"name":"agentlet-identity","projected":7}]}}`))
	if err == nil {
		t.Fatal("read")
	}
	for _, want := range []string{
		"spec.resources.limits.memory", "spec.initContainers[1].resources.requests.cpu", "spec.volumes[0].emptyDir.sizeLimit", "spec.volumes[1].projected",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// Fields that are not read can have any value.
func TestUnreadFieldsAreNotComputed(t *testing.T) {
	const far = `"1e-999999999"`
	pod, err := Pod([]byte(`{"spec":{"overhead":{"cpu":` + far + `},"volumes":[{"name":"a","emptyDir":{"sizeLimit":` + far + `}},{"name":"b","ephemeral":7}],` +
		`"containers":[null,{"env":[{"name":"A","valueFrom":{"resourceFieldRef":{"divisor":` + far + `}}}],"resources":{"limits":{"example.com/x":` + far + `}}}]},` +
		`"status":{"containerStatuses":[{"allocatedResources":{"cpu":` + far + `}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if len(pod.Spec.Volumes) != 2 || len(pod.Spec.Containers) != 2 || pod.Spec.Containers[1].Env[0].ValueFrom == nil {
		t.Errorf("%+v", pod)
	}
}

func TestWhatAPodMayHave(t *testing.T) {
	annotation := func(size int) string {
		return `{"metadata":{"annotations":{"a":"` + strings.Repeat("x", size-1) + `"}}}`
	}
	containers := func(n int) string {
		return `{"spec":{"initContainers":[{}],"containers":[{}` + strings.Repeat(",{}", n-2) + `]}}`
	}
	for name, test := range map[string]struct{ pod, says string }{
		"annotations":          {annotation(maxAnnotations), ""},
		"too many annotations": {annotation(maxAnnotations + 1), "metadata.annotations: Too long: may not be more than 262144 bytes"},
		"containers":           {containers(MaxContainers), ""},
		"too many containers":  {containers(MaxContainers + 1), "spec.containers: Too many: 129: must have at most 128 items"},
	} {
		_, err := Pod([]byte(test.pod))
		if (err == nil) != (test.says == "") || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
