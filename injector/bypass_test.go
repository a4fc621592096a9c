package injector

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const (
	istioIn    = "traffic.sidecar.istio.io/excludeInboundPorts"
	istioOut   = "traffic.sidecar.istio.io/excludeOutboundPorts"
	linkerdIn  = "config.linkerd.io/skip-inbound-ports"
	linkerdOut = "config.linkerd.io/skip-outbound-ports"
)

// meshAnnotations are those of the annotations with which ports bypass a mesh's proxy.
func meshAnnotations(pod *corev1.Pod) map[string]string {
	found := map[string]string{}
	for _, key := range []string{istioIn, istioOut, linkerdIn, linkerdOut} {
		if value, there := pod.Annotations[key]; there {
			found[key] = value
		}
	}
	return found
}

// TestMeshesAreRecognised holds which pods get the annotations of which mesh, with which lists.
func TestMeshesAreRecognised(t *testing.T) {
	istio := map[string]string{istioIn: "19500", istioOut: "8500"}
	linkerd := map[string]string{linkerdIn: "4567,4568,19500", linkerdOut: "4567,4568,8500"}
	endless := strings.Repeat("1,", 1<<14) + "1"
	for name, test := range map[string]struct {
		labels, annotations     map[string]string
		nsLabels, nsAnnotations map[string]string
		change                  func(*corev1.Pod)
		want                    map[string]string
	}{
		"no mesh":                             {},
		"Istio, by the pod's label":           {labels: map[string]string{"sidecar.istio.io/inject": "true"}, want: istio},
		"Istio, by the pod's old annotation":  {annotations: map[string]string{"sidecar.istio.io/inject": "true"}, want: istio},
		"Istio, by the pod's revision":        {labels: map[string]string{"istio.io/rev": "canary"}, want: istio},
		"Istio, by a setting of its proxy":    {annotations: map[string]string{"sidecar.istio.io/proxyCPU": "1"}, want: istio},
		"Istio, by the namespace's label":     {nsLabels: map[string]string{"istio-injection": "enabled"}, want: istio},
		"Istio, by the namespace's revision":  {nsLabels: map[string]string{"istio.io/rev": "canary"}, want: istio},
		"Istio, the namespace says no":        {nsLabels: map[string]string{"istio-injection": "disabled", "istio.io/rev": "canary"}},
		"Istio, the pod says no":              {nsLabels: map[string]string{"istio-injection": "enabled"}, labels: map[string]string{"sidecar.istio.io/inject": "false"}},
		"Istio, the pod's annotation says no": {nsLabels: map[string]string{"istio-injection": "enabled"}, annotations: map[string]string{"sidecar.istio.io/inject": "false"}},
		"Istio, the label counts for more": {
			labels:      map[string]string{"sidecar.istio.io/inject": "true"},
			annotations: map[string]string{"sidecar.istio.io/inject": "false"}, want: istio,
		},
		"Istio, no label of a pod overrules the namespace": {
			nsLabels: map[string]string{"istio-injection": "disabled"},
			labels:   map[string]string{"sidecar.istio.io/inject": "true", "istio.io/rev": "canary"},
		},
		"Istio, no annotation of a pod overrules the namespace": {
			nsLabels:    map[string]string{"istio-injection": "disabled"},
			annotations: map[string]string{"sidecar.istio.io/inject": "true", "sidecar.istio.io/proxyCPU": "1"},
		},
		"Istio's proxy is there, whatever the namespace says": {
			nsLabels: map[string]string{"istio-injection": "disabled"},
			change:   func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy"}} }, want: istio,
		},
		"Istio's ambient mode": {nsLabels: map[string]string{"istio.io/dataplane-mode": "ambient"}},
		"Istio's proxy is there, as a container": {
			change: func(p *corev1.Pod) {
				p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "istio-proxy"})
			}, want: istio,
		},
		"Istio's proxy is there, as an init container": {
			change: func(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "istio-proxy"}} }, want: istio,
		},
		"on the node's network": {
			nsLabels: map[string]string{"istio-injection": "enabled"}, change: func(p *corev1.Pod) { p.Spec.HostNetwork = true },
		},
		"Istio, ports are there":    {annotations: map[string]string{istioIn: "80, 19500", istioOut: "8500"}, want: map[string]string{istioIn: "80, 19500", istioOut: "8500"}},
		"Istio, other ports":        {annotations: map[string]string{istioIn: "80,81", istioOut: ""}, want: map[string]string{istioIn: "80,81,19500", istioOut: "8500"}},
		"Istio, a comma at the end": {annotations: map[string]string{istioIn: "80,", istioOut: "81, "}, want: map[string]string{istioIn: "80,19500", istioOut: "81, 8500"}},
		"Istio, a list it refuses":  {annotations: map[string]string{istioIn: "*", istioOut: "http"}, want: map[string]string{istioIn: "*", istioOut: "http"}},
		"Istio, a list without end": {annotations: map[string]string{istioIn: endless, istioOut: "1"}, want: map[string]string{istioIn: endless, istioOut: "1,8500"}},
		"Linkerd, by the pod":       {annotations: map[string]string{"linkerd.io/inject": "enabled"}, want: linkerd},
		"Linkerd, for an ingress":   {annotations: map[string]string{"linkerd.io/inject": "ingress"}, want: linkerd},
		"Linkerd, by the namespace": {
			nsAnnotations: map[string]string{"linkerd.io/inject": "enabled"}, want: linkerd,
		},
		"Linkerd, the pod says no": {
			nsAnnotations: map[string]string{"linkerd.io/inject": "enabled"}, annotations: map[string]string{"linkerd.io/inject": "disabled"},
		},
		"Linkerd, ranges": {
			annotations: map[string]string{"linkerd.io/inject": "enabled", linkerdIn: "19000-20000", linkerdOut: "8501-8600,443"},
			want:        map[string]string{linkerdIn: "19000-20000", linkerdOut: "8501-8600,443,8500"},
		},
		"Linkerd, the namespace's lists": {
			nsAnnotations: map[string]string{"linkerd.io/inject": "enabled", linkerdIn: "25", linkerdOut: "8000-9000"},
			want:          map[string]string{linkerdIn: "25,19500"},
		},
		"Linkerd, the pod's list before the namespace's": {
			nsAnnotations: map[string]string{"linkerd.io/inject": "enabled", linkerdIn: "25"},
			annotations:   map[string]string{linkerdIn: "26", linkerdOut: "8500"},
			want:          map[string]string{linkerdIn: "26,19500", linkerdOut: "8500"},
		},
		"the port is another": {
			annotations: map[string]string{contract.AgentletPort: "19600", "sidecar.istio.io/inject": "true"},
			want:        map[string]string{istioIn: "19600", istioOut: "8500"},
		},
		"with Consul's own proxy": {
			annotations: map[string]string{
				"sidecar.istio.io/inject": "true", contract.ConnectInject: "true",
				contract.Services: "[{name: web, port: 8080, connect: {sidecar_service: {}}}]", contract.ServiceNames: "",
			},
			want: map[string]string{istioIn: "19500", istioOut: "8500,8502"},
		},
		"with Consul's own proxy, one port is there": {
			annotations: map[string]string{
				"sidecar.istio.io/inject": "true", contract.ConnectInject: "true", istioOut: "8502",
				contract.Services: "[{name: web, port: 8080, connect: {sidecar_service: {}}}]", contract.ServiceNames: "",
			},
			want: map[string]string{istioIn: "19500", istioOut: "8502,8500"},
		},
		"both": {
			annotations: map[string]string{"linkerd.io/inject": "enabled", "sidecar.istio.io/inject": "true"},
			want:        map[string]string{istioIn: "19500", istioOut: "8500", linkerdIn: "4567,4568,19500", linkerdOut: "4567,4568,8500"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := serving("web")
			pod.Labels = test.labels
			maps.Copy(pod.Annotations, test.annotations)
			if pod.Annotations[contract.ServiceNames] == "" {
				delete(pod.Annotations, contract.ServiceNames)
			}
			if test.change != nil {
				test.change(pod)
			}
			request := Request{
				Namespace: "shop", Nonce: nonce,
				NamespaceLabels: NamespaceLabels(test.nsLabels), NamespaceAnnotations: NamespaceAnnotations(test.nsAnnotations),
			}
			patched, d := pass(t, pod, request)
			if d.Outcome != Injected {
				t.Fatalf("%s: %v", d.Outcome, d.Errors)
			}
			if diff := cmp.Diff(test.want, meshAnnotations(patched), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			if _, again := pass(t, patched, request); again.Outcome != Skipped || !cmp.Equal(d.Bypasses, again.Bypasses) {
				t.Errorf("second pass: %s, %+v after %+v", again.Outcome, again.Bypasses, d.Bypasses)
			}
		})
	}
}

// TestIstioReadsNoListOfANamespace, as Linkerd does.
func TestIstioReadsNoListOfANamespace(t *testing.T) {
	patched, _ := pass(t, serving("web"), Request{
		Namespace: "shop", Nonce: nonce, NamespaceLabels: map[string]string{"istio-injection": "enabled"},
		NamespaceAnnotations: map[string]string{istioIn: "80", istioOut: "81"},
	})
	if diff := cmp.Diff(map[string]string{istioIn: "19500", istioOut: "8500"}, meshAnnotations(patched)); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

// pass is one pass of the webhook.
func pass(t *testing.T, pod *corev1.Pod, request Request) (*corev1.Pod, Decision) {
	t.Helper()
	raw, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	request.Pod = decode(t, raw)
	d := testInjector(t).Decide(request)
	if len(d.Patch) == 0 {
		return pod, d
	}
	return whole(t, apply(t, raw, d)), d
}

// injectIstio does to a pod what Istio's injector does, as far as it concerns agentlet.
func injectIstio(pod *corev1.Pod, native, rewrites bool) {
	excluded := "15020"
	if ports := pod.Annotations[istioIn]; ports != "" {
		excluded = ports + "," + excluded
	}
	args := []string{"istio-iptables", "-p", "15001", "-z", "15006", "-i", "*", "-x", "", "-b", "*", "-d", "15090,15021," + excluded}
	if ports, there := pod.Annotations[istioOut]; there {
		args = append(args, "-o", ports)
	}
	if rewrites {
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			if c.Lifecycle == nil || c.Lifecycle.PreStop == nil || c.Lifecycle.PreStop.HTTPGet == nil {
				continue
			}
			c.Lifecycle.PreStop.HTTPGet.Path = "/app-lifecycle/" + c.Name + "/prestopz"
			c.Lifecycle.PreStop.HTTPGet.Port = intstr.FromInt32(15020)
		}
	}
	addProxy(pod, corev1.Container{Name: "istio-init", Args: args}, corev1.Container{Name: "istio-proxy"}, native)
}

// injectLinkerd does to a pod what Linkerd's injector does, as far as it concerns agentlet.
func injectLinkerd(pod *corev1.Pod, native bool) {
	ports := func(annotation, more string) string {
		if ports, there := pod.Annotations[annotation]; there {
			return more + ports
		}
		return more + "4567,4568"
	}
	addProxy(pod, corev1.Container{Name: "linkerd-init", Args: []string{
		"--incoming-proxy-port", "4143", "--inbound-ports-to-ignore", ports(linkerdIn, "4190,4191,"),
		"--outbound-ports-to-ignore", ports(linkerdOut, ""),
	}}, corev1.Container{Name: "linkerd-proxy"}, native)
}

func addProxy(pod *corev1.Pod, setup, proxy corev1.Container, native bool) {
	if native {
		proxy.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		pod.Spec.InitContainers = append([]corev1.Container{setup, proxy}, pod.Spec.InitContainers...)
		return
	}
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, setup)
	pod.Spec.Containers = append(pod.Spec.Containers, proxy)
}

// TestAMeshsInjectorRunsBetweenTwoPasses holds that the second pass knows its own hooks, also those that Istio has rewritten, and
// adds one to the mesh's proxy, which then serves the application until the drain has ended.
func TestAMeshsInjectorRunsBetweenTwoPasses(t *testing.T) {
	istio := map[string]string{"istio-injection": "enabled"}
	linkerd := map[string]string{"linkerd.io/inject": "enabled"}
	for name, test := range map[string]struct {
		labels, annotations map[string]string
		inject              func(pod *corev1.Pod)
		second              Outcome
		hooks               map[string]string // container → path
	}{
		"Istio 1.24": {
			istio, nil, func(p *corev1.Pod) { injectIstio(p, false, false) }, Injected,
			map[string]string{"app": "/drain", "istio-proxy": "/drain"},
		},
		"Istio 1.25": {
			istio, nil, func(p *corev1.Pod) { injectIstio(p, false, true) }, Injected,
			map[string]string{"app": "/app-lifecycle/app/prestopz", "istio-proxy": "/drain"},
		},
		"Istio 1.27, native sidecar": {
			istio, nil, func(p *corev1.Pod) { injectIstio(p, true, true) }, Skipped,
			map[string]string{"app": "/app-lifecycle/app/prestopz"},
		},
		"Linkerd 2.19": {
			nil, linkerd, func(p *corev1.Pod) { injectLinkerd(p, false) }, Injected,
			map[string]string{"app": "/drain", "linkerd-proxy": "/drain"},
		},
		"Linkerd 2.20, native sidecar": {
			nil, linkerd, func(p *corev1.Pod) { injectLinkerd(p, true) }, Skipped,
			map[string]string{"app": "/drain"},
		},
		"Istio, which nothing announced": {
			nil, nil, func(p *corev1.Pod) { injectIstio(p, true, false) }, Injected,
			map[string]string{"app": "/drain"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			request := Request{Namespace: "shop", Nonce: nonce, NamespaceLabels: test.labels, NamespaceAnnotations: test.annotations}
			pod, _ := pass(t, serving("web"), request)
			test.inject(pod)
			pod, second := pass(t, pod, request)
			if second.Outcome != test.second {
				t.Errorf("second pass: %s, %v", second.Outcome, second.Patch)
			}
			announced := test.labels != nil || test.annotations != nil
			if late := len(second.Warnings) == 1 && second.Bypasses[0].Late; late == announced {
				t.Errorf("bypasses %+v, warnings %v", second.Bypasses, second.Warnings)
			}
			hooks := map[string]string{}
			for i := range pod.Spec.Containers {
				if c := &pod.Spec.Containers[i]; c.Lifecycle != nil && c.Name != contract.ContainerName {
					hooks[c.Name] = c.Lifecycle.PreStop.HTTPGet.Path
					if !registration.IsDrainHook(c.Lifecycle.PreStop) {
						t.Errorf("%s has another hook: %+v", c.Name, c.Lifecycle.PreStop)
					}
				}
			}
			if diff := cmp.Diff(test.hooks, hooks); diff != "" {
				t.Errorf("hooks (-want +got):\n%s", diff)
			}
			if _, third := pass(t, pod, request); third.Outcome != Skipped {
				t.Errorf("third pass: %s, %v", third.Outcome, third.Patch)
			}
		})
	}
}

// TestWhatComesTooLate holds for which arguments of a mesh's init container there is a warning, and of what.
func TestWhatComesTooLate(t *testing.T) {
	for name, test := range map[string]struct {
		setup       corev1.Container
		annotations map[string]string
		want        string // end of the warning; empty: none
	}{
		"Istio, nothing": {
			corev1.Container{Name: "istio-init", Args: []string{"istio-iptables", "-b", "*", "-i", "*", "-d", "15090,15021,15020"}},
			nil,
			"19500 to " + istioIn + ", and 8500 to " + istioOut,
		},
		"Istio, no list at all": {
			corev1.Container{Name: "istio-init"}, nil, "19500 to " + istioIn + ", and 8500 to " + istioOut,
		},
		"Istio, inbound is there": {
			corev1.Container{Name: "istio-init", Args: []string{"-d", "15090,15021,19500"}}, nil, "8500 to " + istioOut,
		},
		"Istio, both": {corev1.Container{Name: "istio-init", Args: []string{"-d", "19500", "-o", "8500"}}, nil, ""},
		"Istio takes the application's ports only": {
			corev1.Container{Name: "istio-init", Args: []string{"-b", "8080"}}, nil, "8500 to " + istioOut,
		},
		"Istio takes connections to Services only": {
			corev1.Container{Name: "istio-init", Args: []string{"-i", "10.96.0.0/12", "-d", "19500"}}, nil, "",
		},
		"Istio's CNI plugin": {corev1.Container{Name: "istio-validation", Args: []string{"-d", "15090"}}, nil, ""},
		"Istio, lists that it refuses": {
			corev1.Container{Name: "istio-init", Args: []string{"-d", "15090"}}, map[string]string{istioIn: "x", istioOut: "y"}, "",
		},
		"Istio, lists that can't be read": {corev1.Container{Name: "istio-init", Args: []string{"-d", "$(PORTS)", "-o", "$(PORTS)"}}, nil, ""},
		"Istio, a flag at the end":        {corev1.Container{Name: "istio-init", Args: []string{"-o", "8500", "-d"}}, nil, "19500 to " + istioIn},
		"Linkerd": {
			corev1.Container{Name: "linkerd-init", Args: []string{"--inbound-ports-to-ignore", "4190,4191", "--outbound-ports-to-ignore", "4567"}},
			nil, "19500 to " + linkerdIn + ", and 8500 to " + linkerdOut,
		},
		"Linkerd, ranges": {
			corev1.Container{Name: "linkerd-init", Args: []string{"--inbound-ports-to-ignore", "4190,19000-20000", "--outbound-ports-to-ignore", "1-9000"}},
			nil, "",
		},
		"Linkerd's CNI plugin": {corev1.Container{Name: "linkerd-network-validator"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := serving("web")
			maps.Copy(pod.Annotations, test.annotations)
			mesh, _, _ := strings.Cut(test.setup.Name, "-")
			pod.Spec.InitContainers = []corev1.Container{test.setup, {Name: mesh + "-proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			_, d := pass(t, pod, Request{Namespace: "shop", Nonce: nonce})
			if len(d.Bypasses) != 1 || d.Bypasses[0].Late != (test.want != "") || len(d.Warnings) != map[bool]int{true: 1}[test.want != ""] {
				t.Fatalf("bypasses %+v, warnings %v", d.Bypasses, d.Warnings)
			}
			if test.want != "" && !strings.HasSuffix(d.Warnings[0].Message, "In the pod template add "+test.want) {
				t.Errorf("warning %s", d.Warnings[0].Message)
			}
		})
	}
}

// TestTheWarningIsShownInFull: the API server cuts warnings at 256 characters.
func TestTheWarningIsShownInFull(t *testing.T) {
	config := testConfig()
	config.ConsulPort, config.Connect.GRPCPort = 18501, 18503
	i, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, mesh := range []string{"istio", "linkerd"} {
		pod := serving("web")
		pod.Annotations = map[string]string{
			contract.ConnectInject: "true", contract.Services: "[{name: web, port: 8080, connect: {sidecar_service: {}}}]",
		}
		pod.Spec.InitContainers = []corev1.Container{{Name: mesh + "-init"}, {Name: mesh + "-proxy"}}
		d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
		if len(d.Warnings) != 1 || len(d.Warnings[0].Message) > 256 || !strings.Contains(d.Warnings[0].Message, "18501,18503") {
			t.Errorf("%s: %v, %v", mesh, d.Errors, d.Warnings)
		}
	}
}

// TestConsulsBuiltInProxyNeedsNoMorePorts: it asks the agent's HTTP port, as the agentlet does.
func TestConsulsBuiltInProxyNeedsNoMorePorts(t *testing.T) {
	config := testConfig()
	config.Connect.Proxy = BuiltIn
	i, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	pod := serving("web")
	pod.Annotations = map[string]string{
		"sidecar.istio.io/inject": "true", contract.ConnectInject: "true",
		contract.Services: "[{name: web, port: 8080, connect: {sidecar_service: {}}}]",
	}
	d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
	if want := []Bypass{{Mesh: "Istio", Inbound: []int{19500}, Outbound: []int{8500}}}; !cmp.Equal(d.Bypasses, want) {
		t.Errorf("%+v, want %+v; %v", d.Bypasses, want, d.Errors)
	}
}

// TestARewrittenHookOfAnotherPodIsReplaced: nothing would answer it.
func TestARewrittenHookOfAnotherPodIsReplaced(t *testing.T) {
	pod := serving("web")
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/app-lifecycle/web/prestopz", Port: intstr.FromInt32(15020),
		HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: "another"}},
	}}}
	patched, d := pass(t, pod, Request{Namespace: "shop", Nonce: nonce})
	if get := patched.Spec.Containers[0].Lifecycle.PreStop.HTTPGet; get.Path != contract.DrainPath || get.Port.IntValue() != 19500 ||
		get.HTTPHeaders[0].Value != nonce || len(d.Warnings) > 0 {
		t.Errorf("%+v, %v", get, d.Warnings)
	}
}

// TestAHookOfTheApplicationStaysItsOwnWhenIstioRewritesIt: it has no header of agentlet's.
func TestAHookOfTheApplicationStaysItsOwnWhenIstioRewritesIt(t *testing.T) {
	pod := serving("web")
	pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/app-lifecycle/web/prestopz", Port: intstr.FromInt32(15020),
	}}}
	patched, d := pass(t, pod, Request{Namespace: "shop", Nonce: nonce})
	if get := patched.Spec.Containers[0].Lifecycle.PreStop.HTTPGet; get.Port.IntValue() != 15020 || len(d.Warnings) != 1 ||
		!strings.Contains(d.Warnings[0].Message, "a preStop hook of its own") {
		t.Errorf("%+v, %v", get, d.Warnings)
	}
}
