package limits

import (
	"slices"
	"strings"
	"testing"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// list is a list of resources from pairs such as cpu, 5m.
func list(pairs ...string) corev1.ResourceList {
	l := corev1.ResourceList{}
	for pair := range slices.Chunk(pairs, 2) {
		l[corev1.ResourceName(pair[0])] = resource.MustParse(pair[1])
	}
	return l
}

func limitRange(name string, items ...corev1.LimitRangeItem) corev1.LimitRange {
	return corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.LimitRangeSpec{Limits: items}}
}

func item(change func(*corev1.LimitRangeItem)) corev1.LimitRangeItem {
	i := corev1.LimitRangeItem{Type: corev1.LimitTypeContainer}
	change(&i)
	return i
}

func TestRefused(t *testing.T) {
	usual := corev1.ResourceRequirements{Requests: list("cpu", "5m", "memory", "16Mi"), Limits: list("memory", "64Mi")}
	type refusal struct{ message, remedy string }
	for name, c := range map[string]struct {
		container string // agentlet when empty
		resources corev1.ResourceRequirements
		ranges    []corev1.LimitRange
		want      []refusal
	}{
		"no LimitRange": {resources: usual},
		"a ratio of memory": {
			resources: usual,
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("memory", "2") }))},
			want: []refusal{{
				"it refuses the agentlet, which has the request 16Mi and the limit 64Mi: memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
				"set agentlet.dev/memory-request: 64Mi and agentlet.dev/memory-limit: 64Mi, on the pod",
			}},
		},
		"a ratio of memory that it keeps": {
			resources: usual,
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("memory", "4") }))},
		},
		"a ratio of CPU, and a default limit": {
			resources: usual,
			ranges: []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) {
				i.MaxLimitRequestRatio, i.Default, i.DefaultRequest = list("cpu", "10"), list("cpu", "200m"), list("cpu", "20m")
			}))},
			want: []refusal{{
				"the request 5m and the limit 200m: cpu max limit to request ratio per Container is 10, but provided ratio is 40.000000",
				"set agentlet.dev/cpu-request: 50m and agentlet.dev/cpu-limit: 50m, on the pod",
			}},
		},
		"a ratio of CPU alone": {
			resources: usual,
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("cpu", "1.5") }))},
			want: []refusal{{
				"the request 5m and the limit none: cpu max limit to request ratio per Container is 1500m, but no limit is specified or limit is 0",
				"agentlet.dev/cpu-limit: 50m",
			}},
		},
		"a ratio, and no resources": {
			ranges: []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("memory", "1") }))},
			want: []refusal{{
				"the request none and the limit none: memory max limit to request ratio per Container is 1, but no request is specified or request is 0",
				"agentlet.dev/memory-limit: 64Mi",
			}},
		},
		"a limit alone is the request, too": {
			resources: corev1.ResourceRequirements{Limits: list("memory", "64Mi")},
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("memory", "1") }))},
		},
		"a minimum": {
			resources: usual,
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.Min = list("cpu", "10m", "memory", "32Mi") }))},
			want: []refusal{
				{"minimum cpu usage per Container is 10m, but request is 5m", "set agentlet.dev/cpu-request: 10m, on the pod"},
				{"minimum memory usage per Container is 32Mi, but request is 16Mi", "set agentlet.dev/memory-request: 32Mi, on the pod"},
			},
		},
		"a minimum above the limit": {
			resources: usual,
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.Min = list("memory", "100Mi") }))},
			want:      []refusal{{"minimum memory usage per Container is 100Mi, but request is 16Mi", "agentlet.dev/memory-request: 100Mi and agentlet.dev/memory-limit: 100Mi"}},
		},
		"a maximum": {
			resources: usual,
			ranges: []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) {
				i.Max, i.Default = list("memory", "32Mi"), list("memory", "32Mi")
			}))},
			want: []refusal{{"maximum memory usage per Container is 32Mi, but limit is 64Mi", "agentlet.dev/memory-request: 32Mi and agentlet.dev/memory-limit: 32Mi"}},
		},
		"a maximum, and no limit": {
			resources: corev1.ResourceRequirements{Requests: list("cpu", "5m")},
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.Max = list("cpu", "20m") }))},
			want:      []refusal{{"maximum cpu usage per Container is 20m.  No limit is specified", "agentlet.dev/cpu-request: 20m and agentlet.dev/cpu-limit: 20m"}},
		},
		"two that contradict each other": {
			resources: usual,
			ranges: []corev1.LimitRange{
				limitRange("b", item(func(i *corev1.LimitRangeItem) { i.Min = list("memory", "100Mi") })),
				limitRange("a", item(func(i *corev1.LimitRangeItem) { i.Max = list("memory", "50Mi") })),
			},
			want: []refusal{{"maximum memory usage per Container is 50Mi, but limit is 64Mi", ""}, {"minimum memory usage per Container is 100Mi, but request is 16Mi", ""}},
		},
		"bounds of pods and volumes": {
			resources: usual,
			ranges: []corev1.LimitRange{limitRange("a",
				corev1.LimitRangeItem{Type: corev1.LimitTypePod, MaxLimitRequestRatio: list("memory", "1")},
				corev1.LimitRangeItem{Type: corev1.LimitTypePersistentVolumeClaim, Min: list("storage", "1Gi")})},
		},
		"the mesh proxy": {
			container: contract.ProxyContainerName,
			resources: corev1.ResourceRequirements{Requests: list("cpu", "20m", "memory", "64Mi"), Limits: list("memory", "192Mi")},
			ranges:    []corev1.LimitRange{limitRange("a", item(func(i *corev1.LimitRangeItem) { i.MaxLimitRequestRatio = list("memory", "2") }))},
			want: []refusal{{
				"it refuses the mesh proxy, which has the request 64Mi and the limit 192Mi: ",
				"set connect.resources.requests.memory: 192Mi and connect.resources.limits.memory: 192Mi, in the chart's values",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			container := &corev1.Container{Name: contract.ContainerName, Resources: c.resources}
			if c.container != "" {
				container.Name = c.container
			}
			got := Refused(container, c.ranges)
			if len(got) != len(c.want) {
				t.Fatalf("%+v", got)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i].Message, want.message) || !strings.Contains(got[i].Remedy, want.remedy) || (want.remedy == "") != (got[i].Remedy == "") {
					t.Errorf("%+v\nwant %+v", got[i], want)
				}
				if by := []string{"a", "b"}[i*(len(c.ranges)-1)]; got[i].LimitRange != by {
					t.Errorf("by %s, want %s", got[i].LimitRange, by)
				}
			}
		})
	}
}

func TestAdded(t *testing.T) {
	one, two := &corev1.Container{Name: "one"}, &corev1.Container{Name: "two"}
	got := Added([]jsonpatch.Operation{
		{Path: "/spec/volumes", Value: []*corev1.Volume{{}}},
		{Path: "/spec/initContainers", Value: []*corev1.Container{one}},
		{Path: "/spec/containers/-", Value: two},
		{Path: "/metadata/annotations/a", Value: "b"},
	})
	if !slices.Equal(got, []*corev1.Container{one, two}) {
		t.Errorf("%+v", got)
	}
}
