package main

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
)

func TestTheWebhooksFlagsHoldWhereNoneIsGiven(t *testing.T) {
	given := newWebhookFlags()
	flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
	given.addFlags(flags)
	namespace := flags.String("namespace", "shop", "")
	if err := flags.Parse([]string{"--cluster-name=mine", "--from-cluster"}); err != nil {
		t.Fatal(err)
	}
	err := take(given.set, []string{
		"--listen=:9443", "--image=registry.example/agentlet:7", "--cluster-name=theirs", "--consul-port=8501",
		"--default=drain-delay=10s", "--default=gate=registered", "--allowed-services=shop-*", "--allowed-tags=!urlprefix-*", "--run-as-user=none", "--certs=self-signed", "--namespace=agentlet-system",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := given.config; c.Image != "registry.example/agentlet:7" || c.ClusterName != "mine" || c.AllowedServices != "shop-*" || c.AllowedTags != "!urlprefix-*" || c.RunAsUser != "none" || *namespace != "shop" {
		t.Errorf("%+v", given)
	}
	if !slices.Equal(given.defaults, []string{"drain-delay=10s", "gate=registered"}) {
		t.Errorf("%q", given.defaults)
	}
	if _, err := given.injector(); err != nil {
		t.Error(err)
	}
}

func TestGivenDefaultsReplaceTheWebhooks(t *testing.T) {
	given := newWebhookFlags()
	flags := pflag.NewFlagSet("inject", pflag.ContinueOnError)
	given.addFlags(flags)
	if err := flags.Parse([]string{"--default=drain-delay=1s"}); err != nil {
		t.Fatal(err)
	}
	if err := take(given.set, []string{"--default=drain-delay=10s", "--default=gate=off"}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(given.defaults, []string{"drain-delay=1s"}) {
		t.Errorf("%q", given.defaults)
	}
}

// TestLimitRangesAreWarnedOf: the API server's own message would name neither the agentlet nor its annotations.
func TestLimitRangesAreWarnedOf(t *testing.T) {
	flags := newWebhookFlags()
	flags.addFlags(pflag.NewFlagSet("explain", pflag.ContinueOnError))
	judge, err := flags.injector()
	if err != nil {
		t.Fatal(err)
	}
	decider := inCluster{judge: judge, ranges: map[string][]corev1.LimitRange{"shop": {{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "all"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2")},
		}}},
	}}}}
	const want = "LimitRange all of namespace shop: it refuses the agentlet, which has the request 16Mi and the limit 64Mi: " +
		"memory max limit to request ratio per Container is 2, but provided ratio is 4.000000; " +
		"set agentlet.dev/memory-request: 64Mi and agentlet.dev/memory-limit: 64Mi, on the pod, or in the installation's defaults"
	for name, c := range map[string]struct {
		namespace   string
		annotations map[string]string
		want        string
	}{
		"in the namespace":    {"shop", nil, want},
		"in another":          {"plain", nil, ""},
		"with its remedy":     {"shop", map[string]string{contract.MemoryRequest: "64Mi", contract.MemoryLimit: "64Mi"}, ""},
		"without an agentlet": {"shop", map[string]string{contract.InjectLabel: "false"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}}}
			pod.Annotations = map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}
			maps.Copy(pod.Annotations, c.annotations)
			var got []string
			for _, warning := range decider.Decide(injector.Request{Namespace: c.namespace, Pod: pod, Nonce: "n"}).Warnings {
				got = append(got, warning.Message)
			}
			if strings.Join(got, "\n") != c.want {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// TestTheClustersNamespacesCount holds that a namespace in the files counts for more than the same one in the cluster.
func TestTheClustersNamespacesCount(t *testing.T) {
	flags := newWebhookFlags()
	flags.config.ConsulPort, flags.config.ConsulScheme = 8500, "http"
	judge, err := flags.injector()
	if err != nil {
		t.Fatal(err)
	}
	decider := inCluster{judge: judge, namespaces: map[string]metav1.ObjectMeta{"shop": {
		Labels:      map[string]string{"istio-injection": "enabled"},
		Annotations: map[string]string{"linkerd.io/inject": "enabled"},
	}}}
	for name, test := range map[string]struct {
		request injector.Request
		want    string
	}{
		"of the cluster":   {injector.Request{Namespace: "shop"}, "Istio,Linkerd"},
		"another":          {injector.Request{Namespace: "other"}, ""},
		"labels in files":  {injector.Request{Namespace: "shop", NamespaceLabels: map[string]string{"istio-injection": "disabled"}}, "Linkerd"},
		"annotations, too": {injector.Request{Namespace: "shop", NamespaceAnnotations: map[string]string{"linkerd.io/inject": "disabled"}}, "Istio"},
	} {
		t.Run(name, func(t *testing.T) {
			test.request.Nonce, test.request.Pod = "0", &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"agentlet.dev/service-names": "web"}},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}},
			}
			var meshes []string
			for _, b := range decider.Decide(test.request).Bypasses {
				meshes = append(meshes, b.Mesh)
			}
			if got := strings.Join(meshes, ","); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestAnnotationsInFilesComeBeforeTheClusters: an annotation that the file doesn't hold stays, as kubectl apply leaves it.
func TestAnnotationsInFilesComeBeforeTheClusters(t *testing.T) {
	given := newWebhookFlags()
	given.addFlags(pflag.NewFlagSet("explain", pflag.ContinueOnError))
	judge, err := given.injector()
	if err != nil {
		t.Fatal(err)
	}
	cluster := map[string]string{contract.Readiness: "kubelet", contract.DrainDelay: "8s"}
	c := inCluster{judge: judge, namespaces: map[string]metav1.ObjectMeta{"shop": {Annotations: cluster}}}
	for name, test := range map[string]struct {
		namespace string
		file      map[string]string
		want      registration.Defaults
	}{
		"the cluster's": {"shop", nil, registration.Defaults{contract.Readiness: "kubelet", contract.DrainDelay: "8s"}},
		"both":          {"shop", map[string]string{contract.DrainDelay: "1s"}, registration.Defaults{contract.Readiness: "kubelet", contract.DrainDelay: "1s"}},
		"the file's":    {"new", map[string]string{contract.DrainDelay: "1s"}, registration.Defaults{contract.DrainDelay: "1s"}},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}}}
		d := c.Decide(injector.Request{Namespace: test.namespace, Pod: pod, Nonce: "n", NamespaceAnnotations: test.file})
		if !maps.Equal(d.Defaults, test.want) {
			t.Errorf("%s: %v", name, d.Defaults)
		}
	}
	if len(cluster) != 2 || cluster[contract.DrainDelay] != "8s" {
		t.Errorf("the cluster's have become %v", cluster)
	}
}
