package dialect

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// annotations of a pod; a key without a slash is one of katalog-sync.
type annotations map[string]string

// pod declares http=8080 and admin=9090.
func (a annotations) pod() *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{
			{Name: "http", ContainerPort: 8080}, {Name: "admin", ContainerPort: 9090},
		}}}},
	}
	for key, value := range a {
		if !strings.Contains(key, "/") {
			key = katalogPrefix + key
		}
		pod.Annotations[key] = value
	}
	return pod
}

// read returns the translation as the injector gets it, and the translated pod.
func read(pod *corev1.Pod, on ...Dialect) (Translation, *corev1.Pod) {
	t := Translate(pod.Annotations, on)
	translated := pod.DeepCopy()
	if translated.Annotations == nil {
		translated.Annotations = map[string]string{}
	}
	maps.Copy(translated.Annotations, t.Annotations)
	return t, translated
}

// services returns the registration of a pod without errors.
func services(t *testing.T, pod *corev1.Pod, on ...Dialect) *registration.Registration {
	t.Helper()
	translation, translated := read(pod, on...)
	reg, _, errs := registration.Lint(translated, nil, translation.Origins)
	if errs = append(translation.Errors, errs...); len(errs) > 0 {
		t.Fatalf("errors: %v", translation.MapErrors(errs).ToAggregate())
	}
	return reg
}

// errorsOf returns the texts of a pod's errors.
func errorsOf(pod *corev1.Pod, on ...Dialect) (texts []string) {
	translation, translated := read(pod, on...)
	_, _, errs := registration.Lint(translated, nil, translation.Origins)
	for _, err := range translation.MapErrors(append(translation.Errors, errs...)) {
		texts = append(texts, err.Error())
	}
	return texts
}

// wantErrors checks that there are exactly these errors, each given by its key and a part of its text.
func wantErrors(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("errors %q, want %q", got, want)
	}
	for i := range want {
		key, part, _ := strings.Cut(want[i], ": ")
		if !strings.HasPrefix(got[i], "metadata.annotations["+key+"]: ") || !strings.Contains(got[i], part) {
			t.Errorf("error %d is\n%s\nwant %q", i, got[i], want[i])
		}
	}
}

func wantWarnings(t *testing.T, got []registration.Warning, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("warnings %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i].Message, want[i]) {
			t.Errorf("warning %d is\n%s\nwithout %q", i, got[i].Message, want[i])
		}
		if len(got[i].Message) > 256 {
			t.Errorf("the API server would cut\n%s", got[i].Message)
		}
	}
}

// TestPrecedence: which of several systems' annotations on one pod are read.
func TestPrecedence(t *testing.T) {
	const ours = contract.ServiceNames
	for name, test := range map[string]struct {
		pod      annotations
		on       []Dialect
		names    string // registered; empty: the pod is skipped
		left     SkipReason
		warnings []string
	}{
		"nobody":                        {annotations{"example.com/a": "b"}, All(), "", "", nil},
		"off":                           {annotations{"service-names": "web"}, nil, "", "", nil},
		"the other one is on":           {annotations{"service-names": "web"}, []Dialect{ConsulK8s}, "", "", nil},
		"an unknown one is on":          {annotations{"service-names": "web"}, []Dialect{"x"}, "", "", nil},
		"katalog-sync":                  {annotations{"service-names": "web"}, All(), "web", "", nil},
		"consul-k8s":                    {annotations{consulName: "web"}, All(), "web", "", nil},
		"both":                          {annotations{"service-names": "web", consulName: "other"}, []Dialect{KatalogSync, ConsulK8s}, "web", "", []string{"service-… are not read: " + katalogNames}},
		"both, the other way":           {annotations{"service-names": "web", consulName: "other"}, []Dialect{ConsulK8s, KatalogSync}, "other", "", []string{"are not read: " + consulName}},
		"ours":                          {annotations{ours: "own", "service-names": "web"}, All(), "own", "", []string{"are not read: " + ours}},
		"ours, and both":                {annotations{ours: "own", "service-names": "web", consulName: "other"}, All(), "own", "", []string{katalogPrefix, consulPrefix}},
		"ours, and theirs switched off": {annotations{ours: "own", consulName: "web", consulSync: "false"}, All(), "own", "", nil},
		"ours in the structured form":   {annotations{contract.Services: "[name: own]", "service-names": "web"}, All(), "own", "", []string{"are not read: " + contract.Services}},
		"settings of ours":              {annotations{contract.DrainDelay: "1s", "service-names": "web"}, All(), "web", "", nil},
		"no names":                      {annotations{"service-port": "1"}, All(), "", "", []string{"no effect without " + katalogNames}},
		"no names, and it is off":       {annotations{"service-port": "1"}, []Dialect{ConsulK8s}, "", "", nil},
		"opted out":                     {annotations{consulName: "web", consulSync: "false"}, All(), "", OptedOut, nil},
		"opted out of one of two":       {annotations{consulName: "other", consulSync: "0", "service-names": "web"}, []Dialect{ConsulK8s, KatalogSync}, "web", "", nil},
		"in the mesh":                   {annotations{consulName: "web", connectInject: "true"}, All(), "", Meshed, []string{connectInject}},
		"in the mesh already":           {annotations{consulName: "web", connectInjectStatus: "injected"}, All(), "", Meshed, []string{connectInject}},
		"not in the mesh":               {annotations{consulName: "web", connectInject: "false"}, All(), "web", "", nil},
		"in the mesh alone":             {annotations{connectInject: "true", consulTags: "a", consulMeta + "b": "c"}, All(), "", "", nil},
		"tags alone":                    {annotations{consulTags: "a", consulPort: "1"}, All(), "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			translation, translated := read(test.pod.pod(), test.on...)
			if translation.Left != test.left {
				t.Errorf("left %q, want %q", translation.Left, test.left)
			}
			wantWarnings(t, translation.Warnings, test.warnings...)
			if !registration.Wanted(translated) {
				if test.names != "" || len(translation.Annotations) > 0 {
					t.Errorf("left alone, with %v", translation.Annotations)
				}
				return
			}
			if reg := services(t, test.pod.pod(), test.on...); reg.Services[0].Name != test.names {
				t.Errorf("registers %q, want %q", reg.Services[0].Name, test.names)
			}
		})
	}
}

func TestGates(t *testing.T) {
	if got := Gates(All()); !slices.Equal(got, []string{"katalog-sync.wish.com/synced"}) {
		t.Errorf("gates %q", got)
	}
	if got := Gates([]Dialect{ConsulK8s, "x"}); got != nil {
		t.Errorf("gates %q, want none", got)
	}
}

// TestKeys: each key is translated as the docs say.
func TestKeys(t *testing.T) {
	for _, d := range All() {
		if len(Keys(d)) == 0 {
			t.Errorf("%s has no keys", d)
		}
		for _, k := range Keys(d) {
			ours, _, _ := strings.Cut(strings.TrimSuffix(k.Ours, ".NAME"), ": ")
			if _, _, known := contract.Lookup(ours); ours != "" && !known {
				t.Errorf("%s becomes %s, which the contract lacks", k.Name, ours)
			}
			if k.Ours == "" && k.Doc == "" {
				t.Errorf("%s has no counterpart, and nothing says what replaces it", k.Name)
			}
			example := annotations{katalogNames: "NAME", consulName: "web", k.Name: "NAME"}
			translation, _ := read(example.pod(), d)
			if _, there := translation.Annotations[strings.ReplaceAll(k.Ours, ": name", "")]; !there && d == KatalogSync && k.Ours != "" {
				t.Errorf("%s does not become %s: %v", k.Name, k.Ours, translation.Annotations)
			}
		}
	}
	if Keys("x") != nil {
		t.Error("an unknown dialect has keys")
	}
}

// TestTranslatingTwice: a translated pod has nothing left to translate, and the old annotations can be removed.
func TestTranslatingTwice(t *testing.T) {
	for _, pod := range []*corev1.Pod{
		annotations{"service-names": "web,api", "service-port-api": "9", "service-tags": "a", "sidecar": "s", "service-check-ttl": "20s"}.pod(),
		annotations{consulName: "web", consulTags: "a", consulWeight: "3"}.pod(),
	} {
		_, once := read(pod, All()...)
		_, twice := read(once, All()...)
		if diff := cmp.Diff(once, twice); diff != "" {
			t.Errorf("translated twice (-once +twice):\n%s", diff)
		}
		before, _ := registration.Parse(once, nil)
		maps.DeleteFunc(once.Annotations, func(key, _ string) bool { return !strings.HasPrefix(key, contract.Prefix) })
		after := services(t, once, All()...)
		if diff := cmp.Diff(before, after, cmpopts.IgnoreUnexported(registration.Registration{})); diff != "" {
			t.Errorf("without the old annotations:\n%s", diff)
		}
	}
}

// TestMessagesNameTheOriginalAnnotations: errors and warnings about a translated pod are at the annotations that its author has
// written, and name them.
func TestMessagesNameTheOriginalAnnotations(t *testing.T) {
	for name, test := range map[string]struct {
		pod            annotations
		errs, warnings []string // KEY: a part of the message
	}{
		"a TTL": {
			annotations{"service-names": "web", "service-check-ttl": "2m"},
			nil,
			[]string{katalogPrefix + "service-check-ttl: katalog-sync.wish.com/service-check-ttl 2m is longer than"},
		},
		"a TTL that is reaped": {
			annotations{"service-names": "web", "service-check-ttl": "90s", contract.DeregisterAfter: "1m"},
			[]string{contract.DeregisterAfter + ": must not be less than katalog-sync.wish.com/service-check-ttl (1m30s)"},
			[]string{katalogPrefix + "service-check-ttl: is longer than"},
		},
		"a name for DNS": {
			annotations{consulName: "a_b"}, nil, []string{consulName + `: service "a_b"`},
		},
		"an excluded container": {
			annotations{"service-names": "web", "container-exclude": "x"},
			nil,
			[]string{katalogPrefix + `container-exclude: katalog-sync.wish.com/container-exclude: the pod has no container "x"`},
		},
		"a sidecar instead of a blank": {
			annotations{"service-names": "web", "container-exclude": " ", "sidecar": "x\x00"},
			[]string{katalogPrefix + `sidecar: "x\x00": must be comma-separated container names`},
			nil,
		},
		"ours beside theirs": {
			annotations{"service-names": "web", "service-port": "80", contract.ServicePort + ".x": "1"},
			nil,
			[]string{contract.ServicePort + `.x: annotation agentlet.dev/service-port.x has no effect: katalog-sync.wish.com/service-names names no service "x"`},
		},
		"a form without an escape": {
			annotations{"service-names": "web", "service-tags": "a,", "service-meta-web": "a"},
			[]string{
				katalogPrefix + "service-tags: must be comma-separated tags: one",
				katalogPrefix + `service-meta-web: must be key:value,key:value: "a" has no colon`,
			},
			nil,
		},
		"both forms": {
			annotations{consulName: "web", contract.ServicePort: "1"},
			[]string{contract.ServicePort + ": not together with consul.hashicorp.com/service-name, which"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			translation, translated := read(test.pod.pod(), All()...)
			_, warnings, errs := registration.Lint(translated, nil, translation.Origins)
			var told, warned []string
			for _, err := range translation.MapErrors(errs) {
				told = append(told, err.Error())
			}
			for _, w := range translation.MapWarnings(warnings) {
				warned = append(warned, w.Field+": "+w.Message)
			}
			wantErrors(t, told, test.errs...)
			wantErrors(t, warned, test.warnings...)
		})
	}
}

// A dialect that is off is named, with an annotation that the pod has.
func TestUnread(t *testing.T) {
	for name, test := range map[string]struct {
		annotations map[string]string
		key, want   string
	}{
		"katalog-sync":       {map[string]string{katalogNames: "web", "a": "b"}, katalogNames, "annotations katalog-sync.wish.com/… are not read without --dialect katalog-sync"},
		"consul-k8s":         {map[string]string{consulSync: "true"}, consulSync, "annotations consul.hashicorp.com/service-… are not read without --dialect consul-k8s"},
		"ours, too":          {map[string]string{katalogNames: "web", contract.ServiceNames: "web"}, "", ""},
		"no name":            {map[string]string{katalogPrefix + "service-port": "1"}, "", ""},
		"another annotation": {map[string]string{"a": "b"}, "", ""},
	} {
		w, ok := Unread(test.annotations)
		want := registration.Warning{}
		if test.want != "" {
			want = warning(test.key, "%s", test.want)
		}
		if ok != (test.want != "") || w != want {
			t.Errorf("%s: %v, %v, want %v", name, w, ok, want)
		}
	}
}
