package injector

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/injector/workload"
)

func TestNew(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"good":       {func(*Config) {}, nil},
		"least":      {func(c *Config) { *c = Config{Image: "x", ConsulPort: 1, ConsulScheme: "https"} }, nil},
		"no image":   {func(c *Config) { c.Image = " " }, []string{"--image: Required"}},
		"pull":       {func(c *Config) { c.ImagePullPolicy = "Often" }, []string{`--image-pull-policy: Unsupported value: "Often"`}},
		"port":       {func(c *Config) { c.ConsulPort = 65536 }, []string{"--consul-port: Invalid value: 65536"}},
		"scheme":     {func(c *Config) { c.ConsulScheme = "tcp" }, []string{`--consul-scheme: Unsupported value: "tcp"`}},
		"cluster":    {func(c *Config) { c.ClusterName = strings.Repeat("x", 513) }, []string{"--cluster-name: Too long"}},
		"defaults":   {func(c *Config) { c.Defaults = registration.Defaults{"gate": "x", "gatee": "off"} }, []string{"--default[gate]", "--default[gatee]"}},
		"secrets":    {func(c *Config) { c.ImagePullSecrets = []string{"good", "A_B"} }, []string{`--image-pull-secrets[1]: Invalid value: "A_B"`}},
		"log format": {func(c *Config) { c.LogFormat = "xml" }, []string{`--log-format: Unsupported value: "xml"`}},
		"dialects":   {func(c *Config) { c.Dialects = []dialect.Dialect{"katalog-sync", "katalog", "katalog-sync"} }, []string{`--dialect[1]: Unsupported value: "katalog"`, "--dialect[2]: Duplicate"}},
		"everything": {func(c *Config) { *c = Config{Defaults: registration.Defaults{"x": "y"}} }, []string{"--image", "--consul-port", "--consul-scheme", "--default[x]"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			test.change(&config)
			i, err := New(config)
			if (err == nil) != (len(test.want) == 0) || (err == nil) != (i != nil) {
				t.Fatalf("New: %v, %v", i, err)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error\n%v\nwithout %q", err, part)
				}
			}
		})
	}
}

// TestLogFormat: the configured format becomes an argument of the agentlet, unless it is the default.
func TestLogFormat(t *testing.T) {
	for format, want := range map[string]bool{"": false, "json": false, "text": true} {
		config := testConfig()
		config.LogFormat = format
		if got := slices.Contains(newPodAdditions(&config).firstArgs, "--log-format=text"); got != want {
			t.Errorf("%q: the argument is there: %v", format, got)
		}
	}
}

// TestReasons: the golden pods show every reason.
func TestReasons(t *testing.T) {
	seen := map[Reason]bool{}
	for _, name := range cases(t) {
		raw := readPod(t, filepath.Join("testdata", name))
		seen[testInjector(t).Decide(Request{Pod: decode(t, raw), Nonce: nonce}).Reason] = true
	}
	seen[ReasonServiceNotAllowed], seen[ReasonTagNotAllowed] = true, true // they need annotations of a namespace, see TestAllowed
	for _, reason := range Reasons() {
		if !seen[reason] {
			t.Errorf("no golden pod is %s", reason)
		}
		delete(seen, reason)
	}
	if len(seen) > 0 {
		t.Errorf("reasons beyond Reasons(): %v", seen)
	}
}

// TestPullSecrets: missing Secrets are appended once to those of the pod.
func TestPullSecrets(t *testing.T) {
	config := testConfig()
	config.ImagePullSecrets = []string{"registry", "mirror"}
	i, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ own, want []string }{
		"none":  {nil, []string{"registry", "mirror"}},
		"other": {[]string{"own"}, []string{"own", "registry", "mirror"}},
		"one":   {[]string{"mirror"}, []string{"mirror", "registry"}},
		"both":  {[]string{"mirror", "registry"}, []string{"mirror", "registry"}},
	} {
		pod := decode(t, readPod(t, filepath.Join("testdata", "plain")))
		for _, secret := range test.own {
			pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
		}
		raw := indent(t, pod)
		patched := whole(t, apply(t, raw, i.Decide(Request{Pod: pod, Nonce: nonce})))
		var got []string
		for _, secret := range patched.Spec.ImagePullSecrets {
			got = append(got, secret.Name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		if again := i.Decide(Request{Pod: patched, Nonce: nonce}); again.Reason != ReasonAlreadyInjected {
			t.Errorf("%s: a second call says %s", name, again.Reason)
		}
	}
}

// TestReadOnly: a decision changes neither the pod nor an earlier decision.
func TestReadOnly(t *testing.T) {
	i := testInjector(t)
	for _, name := range cases(t) {
		pod := decode(t, readPod(t, filepath.Join("testdata", name)))
		before := pod.DeepCopy()
		first := i.Decide(Request{Pod: pod, Nonce: nonce})
		text := string(indent(t, first.Patch))
		i.Decide(Request{Pod: pod, Nonce: "another"})
		if string(indent(t, pod)) != string(indent(t, before)) {
			t.Errorf("%s: the pod has changed", name)
		}
		if string(indent(t, first.Patch)) != text {
			t.Errorf("%s: the patch has changed", name)
		}
	}
}

// TestDialectsTouchNothingElse: dialects don't change the decision on a pod without their annotations.
func TestDialectsTouchNothingElse(t *testing.T) {
	config := testConfig()
	config.Dialects = nil
	off, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, name := range cases(t) {
		raw := readPod(t, filepath.Join("testdata", name))
		if strings.Contains(string(raw), "katalog-sync.wish.com/") || strings.Contains(string(raw), "consul.hashicorp.com/") {
			continue
		}
		same++
		request := Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce}
		if a, b := string(indent(t, off.Decide(request))), string(indent(t, testInjector(t).Decide(request))); a != b {
			t.Errorf("%s: with dialects\n%s\nwithout\n%s", name, b, a)
		}
	}
	if same == 0 {
		t.Error("no pod was tried")
	}
}

func TestResources(t *testing.T) {
	quantities := func(cpu, memory string) corev1.ResourceList {
		list := corev1.ResourceList{}
		for name, text := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
			if text != "" {
				list[name] = resource.MustParse(text)
			}
		}
		return list
	}
	q := func(text string) *resource.Quantity { return new(resource.MustParse(text)) }
	fixed := corev1.ResourceRequirements{Limits: quantities("1", "1Gi")}
	usual := registration.Resources{CPURequest: q("5m"), MemoryRequest: q("16Mi"), MemoryLimit: q("64Mi")}
	for name, test := range map[string]struct {
		app, init corev1.ResourceRequirements
		pod       *corev1.ResourceRequirements
		asked     registration.Resources
		want      string
	}{
		"best effort":            {asked: usual, init: fixed, want: `{"limits":{"memory":"64Mi"},"requests":{"cpu":"5m","memory":"16Mi"}}`},
		"nothing asked":          {want: `{}`},
		"guaranteed":             {app: fixed, init: fixed, asked: usual, want: `{"limits":{"cpu":"50m","memory":"64Mi"},"requests":{"cpu":"50m","memory":"64Mi"}}`},
		"guaranteed, more asked": {app: fixed, asked: registration.Resources{CPURequest: q("80m")}, init: fixed, want: `{"limits":{"cpu":"80m"},"requests":{"cpu":"80m"}}`},
		"guaranteed, no request": {app: fixed, asked: registration.Resources{MemoryLimit: q("64Mi")}, init: fixed, want: `{"limits":{"memory":"64Mi"},"requests":{"memory":"64Mi"}}`},
		"a request below":        {app: corev1.ResourceRequirements{Limits: quantities("1", "1Gi"), Requests: quantities("1", "1Mi")}, init: fixed, asked: usual, want: `{"limits":{"memory":"64Mi"},"requests":{"cpu":"5m","memory":"16Mi"}}`},
		"no memory limit":        {app: corev1.ResourceRequirements{Limits: quantities("1", "")}, init: fixed, asked: usual, want: `{"limits":{"memory":"64Mi"},"requests":{"cpu":"5m","memory":"16Mi"}}`},
		"a limit of zero":        {app: corev1.ResourceRequirements{Limits: quantities("0", "1Gi")}, init: fixed, asked: usual, want: `{"limits":{"memory":"64Mi"},"requests":{"cpu":"5m","memory":"16Mi"}}`},
		"guaranteed, CPU limit":  {app: fixed, init: fixed, asked: registration.Resources{CPURequest: q("5m"), CPULimit: q("1"), MemoryRequest: q("16Mi")}, want: `{"limits":{"cpu":"1","memory":"16Mi"},"requests":{"cpu":"1","memory":"16Mi"}}`},
		"for the pod":            {app: fixed, init: fixed, pod: &corev1.ResourceRequirements{Limits: quantities("1", "1Gi")}, asked: usual, want: `{}`},
		"for the pod, CPU alone": {app: fixed, init: fixed, pod: &corev1.ResourceRequirements{Requests: quantities("1", "")}, asked: usual, want: `{"limits":{"memory":"64Mi"},"requests":{"memory":"16Mi"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{
				Resources:      test.pod,
				InitContainers: []corev1.Container{{Resources: test.init}},
				Containers:     []corev1.Container{{Resources: test.app}},
			}}
			got, err := json.Marshal(resources(pod, &test.asked))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("resources\n%s, want\n%s", got, test.want)
			}
		})
	}
}

// farExponent matches quantities for which Kubernetes' own decoder takes long.
var farExponent = regexp.MustCompile(`[eE][+-]?[0-9]{3}`)

// seeds adds the golden pods to a fuzz target whose other arguments are the key and value of one more annotation.
func seeds(f *testing.F) {
	for _, name := range cases(f) {
		f.Add(readPod(f, filepath.Join("testdata", name)), "gate", "off")
	}
}

// asSent encodes a pod as the API server does, each key once and in its own spelling, with one more annotation. It skips the
// test where the text is no pod.
func asSent(t *testing.T, text []byte, key, value string) []byte {
	t.Helper()
	pod := &corev1.Pod{}
	if farExponent.Match(text) || json.Unmarshal(text, pod) != nil {
		t.Skip()
	}
	if pod.Annotations != nil {
		pod.Annotations[contract.Prefix+key] = value
	}
	if len(pod.Spec.Containers)+len(pod.Spec.InitContainers) > workload.MaxContainers {
		t.Skip()
	}
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Skip()
	}
	return raw
}

// FuzzDecide checks for any pod what the golden test checks for its pods: a patch applies, only adds, and leaves nothing to a
// second pass.
func FuzzDecide(f *testing.F) {
	seeds(f)
	i := testInjector(f)
	f.Fuzz(func(t *testing.T, text []byte, key, value string) {
		raw := asSent(t, text, key, value)
		request := Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce}
		d := i.Decide(request)
		if !slices.Contains(Reasons(), d.Reason) || (d.Outcome == Denied) != (len(d.Errors) > 0) || (d.Outcome == Injected) != (len(d.Patch) > 0) {
			t.Errorf("decision %+v", d)
		}
		if d.Outcome == Injected {
			checkPatched(t, raw, apply(t, raw, d), &request, d)
		}
	})
}

// FuzzFields: the decision on the decoded fields equals that on the whole pod.
func FuzzFields(f *testing.F) {
	seeds(f)
	i := testInjector(f)
	f.Fuzz(func(t *testing.T, text []byte, key, value string) {
		raw := asSent(t, text, key, value)
		want := i.Decide(Request{Namespace: "shop", Pod: whole(t, raw), Nonce: nonce})
		got := i.Decide(Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce})
		if diff := cmp.Diff(indent(t, want), indent(t, got)); diff != "" {
			t.Errorf("another decision than of the whole pod (-whole +fields):\n%s", diff)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	i := testInjector(b)
	for _, name := range []string{"plain", "several-containers", "structured", "already-injected", "not-annotated", "several-errors"} {
		b.Run(name, func(b *testing.B) {
			request := Request{Namespace: "shop", Pod: decode(b, readPod(b, filepath.Join("testdata", name))), Nonce: nonce}
			b.ReportAllocs()
			for b.Loop() {
				i.Decide(request)
			}
		})
	}
}

// TestOptingOut: whatever can only mean no is one, on a label and in an annotation.
func TestOptingOut(t *testing.T) {
	for value, want := range map[string]Reason{
		"false": ReasonOptedOut, "False": ReasonOptedOut, "FALSE": ReasonOptedOut, "disabled": ReasonOptedOut, "Disable": ReasonOptedOut,
		"off": ReasonOptedOut, "no": ReasonOptedOut, "NO\n": ReasonOptedOut, "0": ReasonOptedOut,
		"": ReasonInjected, "true": ReasonInjected, "enabled": ReasonInjected, "nobody": ReasonInjected,
	} {
		label, annotation := serving("web"), serving("web")
		label.Labels = map[string]string{contract.InjectLabel: value}
		annotation.Annotations[contract.InjectLabel] = value
		for where, pod := range map[string]*corev1.Pod{"label": label, "annotation": annotation} {
			if d := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce}); d.Reason != want {
				t.Errorf("%s %q: %s, want %s", where, value, d.Reason, want)
			}
		}
	}
}

// TestACopyIsNotJudgedByItsAnnotations: nothing of them is registered, so that a rule that is newer than the original keeps
// nobody from debugging.
func TestACopyIsNotJudgedByItsAnnotations(t *testing.T) {
	pod := decode(t, readPod(t, "testdata/copy"))
	pod.Annotations[contract.HeartbeatTTL] = "soon"
	d := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
	if d.Outcome != Skipped || d.Reason != ReasonAlreadyInjected || d.CopyOf != "web-0" || len(d.Patch) > 0 {
		t.Errorf("%+v", d)
	}
}

// TestAMeshThatComesLaterChangesNoPort holds that the port of a pod is the one that its author was told at admission, whoever
// puts a container before the application's since.
func TestAMeshThatComesLaterChangesNoPort(t *testing.T) {
	for name, annotations := range map[string]map[string]string{
		"flat":       {contract.ServiceNames: "web"},
		"structured": {contract.Services: "[{name: web}]"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := readPod(t, "testdata/plain")
			pod := decode(t, raw)
			pod.Annotations = annotations
			d := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
			live := whole(t, apply(t, raw, d))
			live.Annotations = annotations
			live.Spec.Containers = append([]corev1.Container{
				{Name: "linkerd-proxy", Ports: []corev1.ContainerPort{{Name: "linkerd-proxy", ContainerPort: 4143}}},
			}, live.Spec.Containers...)
			reg, errs := registration.Parse(live, nil)
			if len(errs) > 0 || reg.Services[0].Port != 8080 {
				t.Errorf("%+v, %v", reg, errs)
			}
		})
	}
}

// TestAChangedManifestGetsItsPort has a pod injected twice, as a manifest or by the webhook, and changed in between. The record follows
// the manifest. It stays where a webhook has changed the pod within its admission.
func TestAChangedManifestGetsItsPort(t *testing.T) {
	mesh := func(pod *corev1.Pod) {
		pod.Spec.Containers = append([]corev1.Container{{Name: "mesh-proxy", Ports: []corev1.ContainerPort{{ContainerPort: 4143}}}}, pod.Spec.Containers...)
	}
	port := func(pod *corev1.Pod) { pod.Spec.Containers[0].Ports[0].ContainerPort = 9090 }
	istio := func(pod *corev1.Pod) { // beside an application that declares no port any more
		pod.Spec.Containers[0].Ports = nil
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "istio-proxy", Ports: []corev1.ContainerPort{{ContainerPort: 15090}}})
	}
	first := func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Ports = append([]corev1.ContainerPort{{ContainerPort: 9090}}, pod.Spec.Containers[0].Ports...)
	}
	for name, c := range map[string]struct {
		admitted bool
		change   []func(*corev1.Pod)
		want     string
		renewed  bool
	}{
		"a manifest":                          {false, nil, "8080", false},
		"a manifest, another port":            {false, []func(*corev1.Pod){port}, "9090", true},
		"a manifest, another port first":      {false, []func(*corev1.Pod){first}, "9090", true},
		"a manifest, a mesh first":            {false, []func(*corev1.Pod){mesh}, "8080", false},
		"an admission":                        {true, nil, "8080", false},
		"an admission, a mesh first":          {true, []func(*corev1.Pod){mesh}, "8080", false},
		"an admission, somebody's port first": {true, []func(*corev1.Pod){first}, "8080", false},
		"a pod exported, with another port":   {true, []func(*corev1.Pod){port}, "9090", true},
		"a pod exported, a mesh's port alone": {true, []func(*corev1.Pod){istio}, "8080", false},
	} {
		for _, placement := range []contract.PlacementMode{contract.PlacementContainer, contract.PlacementSidecar} {
			t.Run(name+", "+string(placement), func(t *testing.T) {
				decide := func(pod *corev1.Pod) (Decision, *corev1.Pod) {
					t.Helper()
					raw, err := json.Marshal(pod)
					if err != nil {
						t.Fatal(err)
					}
					d := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
					return d, whole(t, apply(t, raw, d))
				}
				pod := whole(t, readPod(t, "testdata/plain"))
				pod.Annotations = map[string]string{contract.ServiceNames: "web", contract.Placement: string(placement), contract.DrainHook: "false"}
				pod.GenerateName = ""
				if pod.Name = ""; c.admitted {
					pod.Name = "web-0"
				}
				_, pod = decide(pod)
				for _, change := range c.change {
					change(pod)
				}
				d, pod := decide(pod)
				warned := slices.ContainsFunc(d.Warnings, func(w registration.Warning) bool { return strings.Contains(w.Message, "it was 8080 when") })
				renewed := slices.ContainsFunc(d.Patch, func(o jsonpatch.Operation) bool { return strings.Contains(o.Path, "/env/") })
				if got := registration.RecordedPort(pod); got != c.want || renewed != c.renewed || warned != c.renewed {
					t.Errorf("%s, %s, warned %v, want %s, renewed %v: %v", got, d.Outcome, warned, c.want, c.renewed, d.Patch)
				}
				reg, errs := registration.Parse(pod, nil)
				if len(errs) > 0 || strconv.Itoa(reg.Services[0].Port) != c.want {
					t.Errorf("the agentlet reads %+v, %v", reg, errs)
				}
				if again, _ := decide(pod); again.Outcome != Skipped || again.Reason != ReasonAlreadyInjected {
					t.Errorf("a third time %+v", again)
				}
			})
		}
	}
}
