package policies

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/pkitest"
)

// restrictedV2 judges pods as OpenShift's restricted-v2 does, with each version's rules.
func restrictedV2(t *testing.T, do func(t *testing.T, denials func(pod *corev1.Pod) []string)) {
	t.Helper()
	text, err := os.ReadFile("testdata/restricted-v2.yaml")
	if err != nil {
		t.Fatal(err)
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := yaml.UnmarshalStrict(text, policy); err != nil {
		t.Fatal(err)
	}
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) {
			c := compile(t, policy, version)
			do(t, func(pod *corev1.Pod) []string {
				denials, _ := c.judge(t, request{
					operation: admission.Create, kind: corev1.SchemeGroupVersion.WithKind("Pod"), resource: "pods", now: pod,
				})
				return denials
			})
		})
	}
}

const (
	usersDenied   = "restricted-v2: users and groups must be in the ranges: [1000650000, 1000659999]"
	volumesDenied = "restricted-v2: a volume is of a kind that is not allowed to be used"
	rootDenied    = "restricted-v2: a container may not be privileged, escalate privileges or be root"
	addedDenied   = "restricted-v2: a capability may not be added"
	seccompDenied = "restricted-v2: seccomp profiles are runtime/default"
	hostDenied    = "restricted-v2: the host's network, processes and ports may not be used"
)

// TestRestrictedV2 tests the policy itself, by which the other tests and the scenario judge.
func TestRestrictedV2(t *testing.T) {
	id := func(n int64) *int64 { return &n }
	in := func(c corev1.SecurityContext) func(*corev1.Pod) {
		return func(pod *corev1.Pod) { pod.Spec.Containers[0].SecurityContext = &c }
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		denial string
	}{
		"nothing said": {func(*corev1.Pod) {}, ""},
		"a user of the range": {func(pod *corev1.Pod) {
			pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: id(1000650000), FSGroup: id(1000659999)}
		}, ""},
		"a pod's user":    {func(pod *corev1.Pod) { pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: id(65532)} }, usersDenied},
		"a pod's fsGroup": {func(pod *corev1.Pod) { pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: id(65532)} }, usersDenied},
		"a user":          {in(corev1.SecurityContext{RunAsUser: id(65532)}), usersDenied},
		"a group":         {in(corev1.SecurityContext{RunAsGroup: id(1000660000)}), usersDenied},
		"an init container's user": {func(pod *corev1.Pod) {
			pod.Spec.InitContainers = []corev1.Container{{Name: "first", SecurityContext: &corev1.SecurityContext{RunAsUser: id(0)}}}
		}, usersDenied},
		"a volume": {func(pod *corev1.Pod) {
			pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}, volumesDenied},
		"privileged":    {in(corev1.SecurityContext{Privileged: new(true)}), rootDenied},
		"an escalation": {in(corev1.SecurityContext{AllowPrivilegeEscalation: new(true)}), rootDenied},
		"a capability":  {in(corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}), addedDenied},
		"a profile":     {in(corev1.SecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}}), seccompDenied},
		"a host's port": {func(pod *corev1.Pod) {
			pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}, hostDenied},
		"the network": {func(pod *corev1.Pod) { pod.Spec.HostNetwork = true }, hostDenied},
	} {
		restrictedV2(t, func(t *testing.T, denials func(*corev1.Pod) []string) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}
			test.change(pod)
			var want []string
			if test.denial != "" {
				want = []string{test.denial}
			}
			if got := denials(pod); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		})
	}
}

// TestRestrictedV2AdmitsWhatIsInjected injects everything there is: the mesh proxy, its token, certificates of Consul.
func TestRestrictedV2AdmitsWhatIsInjected(t *testing.T) {
	for user, want := range map[injector.RunAsUser][]string{
		injector.RunAsNone: nil, "1000650001": nil, injector.RunAsAuto: {usersDenied},
	} {
		i, err := injector.New(injector.Config{
			Image: "agentlet:1", RunAsUser: user, ConsulPort: 8501, ConsulScheme: "https",
			ConsulTLS: injector.ConsulTLS{ConfigMap: "consul-ca", Secret: "consul-client"},
			ConsulACL: injector.ConsulACL{Mode: injector.ACLLogin, AuthMethod: "agentlet", Audience: "consul"},
			Connect:   injector.Connect{Image: "envoy:1", GRPCPort: 8503, AuthMethod: "proxies"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, annotations := range []map[string]string{
			{contract.ServiceNames: "web"},
			{contract.Services: "[{name: web, port: http, connect: {sidecar_service: {}}}]", contract.ConnectInject: "true"},
		} {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: annotations},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "web", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				}}},
			}
			decision := i.Decide(injector.Request{Namespace: "shop", Pod: pod, Nonce: "n"})
			injected := with(pod, decision)
			if len(injected.Spec.Containers) < 2 || len(injected.Spec.Volumes) == 0 {
				t.Fatalf("%+v", decision)
			}
			restrictedV2(t, func(t *testing.T, denials func(*corev1.Pod) []string) {
				if got := denials(injected); !slices.Equal(got, want) {
					t.Errorf("--run-as-user=%s, %v: %q, want %q", user, annotations, got, want)
				}
			})
		}
	}
}

// with is the pod with the containers and volumes that are added to it.
func with(pod *corev1.Pod, added injector.Decision) *corev1.Pod {
	pod = pod.DeepCopy()
	for _, operation := range added.Patch {
		switch value := operation.Value.(type) {
		case *corev1.Container:
			pod.Spec.Containers = append(pod.Spec.Containers, *value)
		case []*corev1.Container:
			for _, container := range value {
				pod.Spec.Containers = append(pod.Spec.Containers, *container)
			}
		case *corev1.Volume:
			pod.Spec.Volumes = append(pod.Spec.Volumes, *value)
		case []*corev1.Volume:
			for _, volume := range value {
				pod.Spec.Volumes = append(pod.Spec.Volumes, *volume)
			}
		}
	}
	return pod
}

// TestRestrictedV2AdmitsTheChartsPods judges the pods of the chart as it is, its test's included.
func TestRestrictedV2AdmitsTheChartsPods(t *testing.T) {
	helm := os.Getenv("AGENTLET_TEST_HELM")
	if helm == "" {
		t.Skip("AGENTLET_TEST_HELM is not set; make unit sets it")
	}
	authority, _ := pkitest.Sign(t, &x509.Certificate{}, nil, nil)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})
	out, err := exec.CommandContext(t.Context(), helm, "template", "agentlet", filepath.Join("..", "..", "charts", "agentlet"),
		"-n", "agentlet-system", "--set", "image.repository=registry.example/agentlet,tests.enabled=true", "--set", "webhook.clientCA="+string(text)).Output()
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string]*corev1.Pod{}
	for decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(out), 4096); ; {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if pod := podOf(t, &object); pod != nil {
			pods[fmt.Sprintf("%s/%s", object.GetKind(), object.GetName())] = pod
		}
	}
	if len(pods) != 2 {
		t.Errorf("%d pods, want those of the webhook and of the chart's test", len(pods))
	}
	restrictedV2(t, func(t *testing.T, denials func(*corev1.Pod) []string) {
		for name, pod := range pods {
			if got := denials(pod); len(got) > 0 {
				t.Errorf("%s: %q", name, got)
			}
		}
	})
}

// podOf is the object, if it is a pod, or a pod of its template; nil for an object without one.
func podOf(t *testing.T, object *unstructured.Unstructured) *corev1.Pod {
	t.Helper()
	convert := func(into any) {
		t.Helper()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into); err != nil {
			t.Fatal(err)
		}
	}
	switch object.GetKind() {
	case "Pod":
		pod := &corev1.Pod{}
		convert(pod)
		return pod
	case "Deployment":
		deployment := &appsv1.Deployment{}
		convert(deployment)
		return &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
	}
	return nil
}
