package check

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery/fake"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/pkitest"
)

// world is a healthy cluster; tests break it.
type world struct {
	version     string
	caBundle    []byte
	namespaces  map[string]map[string]string // labels by name
	annotations map[string]string            // the namespaces'
	pods        []corev1.Pod
	noHook      bool
	others      []admissionregistrationv1.MutatingWebhookConfiguration
	noBinding   bool
	noPolicy    bool
	// noEvents and noEventsBinding remove the policy about events, and its binding.
	noEvents, noEventsBinding bool

	denied    map[string]bool // verbs, and accounts
	dryRun    func(pod *corev1.Pod) error
	readyz    func() ([]byte, error)
	readyzOf  map[string]func() ([]byte, error) // of single replicas
	expires   time.Time                         // the served certificate
	workloads []byte                            // the caBundle of the webhook that validates workloads; nil if there is none
	events    []corev1.Event
	ratio     string // of limits to requests of memory, in a LimitRange of shop and one of plain; empty: none
	agents    map[string]func(path string) ([]byte, error)
	statuses  map[string]*contract.Status
	catalog   Consul
}

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newWorld(t *testing.T) *world {
	t.Helper()
	bundle := authority(t, now.Add(time.Hour))
	return &world{
		version: "v1.37.1", caBundle: bundle, workloads: bundle, expires: now.Add(8 * time.Hour),
		namespaces: map[string]map[string]string{
			"agentlet-system": {contract.InjectLabel: contract.InjectEnabled, "kubernetes.io/metadata.name": "agentlet-system"},
			"shop":            {contract.InjectLabel: contract.InjectEnabled},
			"plain":           {},
		},
		pods: []corev1.Pod{webhookPod(), injectedPod("web", func(*corev1.Pod) {})},
		dryRun: func(pod *corev1.Pod) error {
			pod.Spec.InitContainers = []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}
			return nil
		},
		readyz: func() ([]byte, error) { return []byte("[+] certificate: ok\n[+] trust: ok\n"), nil },
		agents: map[string]func(string) ([]byte, error){"node1": agent(false)},
	}
}

func authority(t *testing.T, until time.Time) []byte {
	t.Helper()
	certificate, _ := pkitest.Sign(t, &x509.Certificate{NotBefore: now.Add(-time.Hour * 48), NotAfter: until, IsCA: true}, nil, nil)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
}

func agent(leave bool) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if path == "v1/status/leader" {
			return []byte(`"10.0.0.1:8300"`), nil
		}
		return fmt.Appendf(nil, `{"Config":{"Version":"1.22.7","NodeName":"node1"},"DebugConfig":{"LeaveOnTerm":%v}}`, leave), nil
	}
}

func webhookPod() corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: "webhook-1", Labels: map[string]string{"app": "webhook"}},
		Status:     corev1.PodStatus{StartTime: &metav1.Time{Time: now.Add(-time.Hour)}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "webhook", Args: []string{"--consul-port=8501", "--grants=auto", "--allowed-services=*,!vault", "--allowed-tags=!traefik.*"},
			Ports: []corev1.ContainerPort{{Name: "health", ContainerPort: 9090}},
		}}},
	}
}

// injectedPod returns a pod with its agentlet and an open gate.
func injectedPod(name string, change func(*corev1.Pod)) corev1.Pod {
	pod := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Annotations: map[string]string{contract.ServiceNames: "web"}},
		Spec: corev1.PodSpec{
			NodeName: "node1", InitContainers: []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}},
			Containers:     []corev1.Container{{Name: "web", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
		},
		Status: corev1.PodStatus{
			StartTime:  &metav1.Time{Time: now.Add(-time.Hour)},
			Conditions: []corev1.PodCondition{{Type: contract.Condition, Status: corev1.ConditionTrue, Reason: "Registered"}},
		},
	}
	change(&pod)
	return pod
}

// meshed asks for a mesh proxy.
func meshed(pod *corev1.Pod) {
	pod.Annotations = map[string]string{
		contract.Services:      `[{"name": "web", "port": 80, "connect": {"sidecar_service": {}}}]`,
		contract.ConnectInject: "true",
	}
}

func bare(pod *corev1.Pod) { pod.Spec.InitContainers, pod.Spec.ReadinessGates = nil, nil }

func closed(reason contract.Reason, since time.Duration) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: contract.Condition, Status: corev1.ConditionFalse, Reason: string(reason), Message: "because",
			LastTransitionTime: metav1.Time{Time: now.Add(-since)},
		}}
	}
}

func (w *world) Pod(_ context.Context, _, pod, port, path string) ([]byte, error) {
	switch readyz := w.readyzOf[pod]; {
	case port == "9090" && path == "readyz" && readyz != nil:
		return readyz()
	case port == "9090" && path == "readyz":
		return w.readyz()
	case port == "9090" && path == "metrics":
		return fmt.Appendf(nil, "# HELP x\n%s %g\n", expiryMetric, float64(w.expires.Unix())), nil
	}
	return nil, fmt.Errorf("unexpected %s at %s", path, port)
}

func (w *world) Node(_ context.Context, _, node string, port int, path string) ([]byte, error) {
	if port != 8501 {
		return nil, fmt.Errorf("unexpected port %d", port)
	}
	return w.agents[node](path)
}

func (w *world) Status(_ context.Context, pod *corev1.Pod) (*contract.Status, error) {
	if s := w.statuses[pod.Name]; s != nil {
		return s, nil
	}
	return nil, errors.New("no answer")
}

// client returns a client of the world's API server.
func (w *world) client() *kubefake.Clientset {
	objects := []runtime.Object{
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.11"}},
		}},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: "agentlet"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "webhook"}},
		},
	}
	for name, labels := range w.namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		namespace.Annotations = w.annotations
		objects = append(objects, namespace)
	}
	for i := range w.pods {
		objects = append(objects, &w.pods[i])
	}
	for i := range w.events {
		objects = append(objects, &w.events[i])
	}
	if w.ratio != "" {
		for _, namespace := range []string{"plain", "shop"} {
			objects = append(objects, &corev1.LimitRange{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "all"},
				Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
					Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(w.ratio)},
				}}},
			})
		}
	}
	objects = append(objects, w.configurations()...)
	client := kubefake.NewClientset(objects...)
	client.Discovery().(*fake.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: w.version}
	client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
		_, name, _ := strings.Cut(strings.TrimPrefix(review.Spec.User, "system:serviceaccount:"), ":")
		review.Status.Allowed = !w.denied[review.Spec.ResourceAttributes.Verb] && !w.denied[name]
		return true, review, nil
	})
	client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		pod := action.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		return true, pod, w.dryRun(pod)
	})
	return client
}

func (w *world) configurations() (objects []runtime.Object) {
	for i := range w.others {
		objects = append(objects, &w.others[i])
	}
	if !w.noHook {
		objects = append(objects, &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "agentlet"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{
				Name: installation.HookName,
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					CABundle: w.caBundle, Service: &admissionregistrationv1.ServiceReference{Namespace: "agentlet-system", Name: "agentlet"},
				},
				NamespaceSelector: &metav1.LabelSelector{
					MatchLabels: map[string]string{contract.InjectLabel: contract.InjectEnabled},
					MatchExpressions: []metav1.LabelSelectorRequirement{{
						Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"agentlet-system"},
					}},
				},
			}},
		})
	}
	if w.workloads != nil {
		objects = append(objects, &admissionregistrationv1.ValidatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "agentlet"},
			Webhooks: []admissionregistrationv1.ValidatingWebhook{{
				Name: workloadsName, ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: w.workloads},
			}},
		})
	}
	if !w.noPolicy {
		objects = append(objects, policyFor("own-gate", "pods/status"))
	}
	if !w.noBinding {
		objects = append(objects, bindingOf("own-gate"))
	}
	if !w.noEvents {
		objects = append(objects, policyFor("own-events", "events"))
	}
	if !w.noEventsBinding {
		objects = append(objects, bindingOf("own-events"))
	}
	return objects
}

// policyFor returns a policy that restricts agentlets' writes to a resource, with the fields that check reads.
func policyFor(name, resource string) *admissionregistrationv1.ValidatingAdmissionPolicy {
	rule := admissionregistrationv1.NamedRuleWithOperations{}
	rule.Resources = []string{resource}
	return &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{rule}},
			MatchConditions:  []admissionregistrationv1.MatchCondition{{Name: "role", Expression: "authorizer." + roleMark + ".allowed()"}},
		},
	}
}

func bindingOf(policy string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "of-" + policy},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
}

// nodes is a fake Consul with these nodes.
type nodes map[string]bool

func (nodes) Version(context.Context) (string, error) { return "1.22.7", nil }

func (n nodes) Nodes(context.Context, []string) (map[string]bool, error) { return n, nil }

func refused(string) ([]byte, error) { return nil, errors.New("connection refused") }

func forbidden(string) ([]byte, error) { return nil, fmt.Errorf("get: %w", apiproxy.ErrForbidden) }

func answering(text string, err error) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), err }
}

func failing(message string) func(*corev1.Pod) error {
	return func(*corev1.Pod) error { return errors.New(message) }
}

// prestop returns an event of the pod "web", of this age.
func prestop(reason string, ago time.Duration) []corev1.Event {
	return []corev1.Event{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, Reason: reason, Message: "connection refused",
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "web"}, LastTimestamp: metav1.Time{Time: now.Add(-ago)},
	}}
}

// injectors returns a configuration of this name with one webhook.
func injectors(
	configuration, hook string,
	again admissionregistrationv1.ReinvocationPolicyType,
) []admissionregistrationv1.MutatingWebhookConfiguration {
	webhook := admissionregistrationv1.MutatingWebhook{Name: hook}
	if again != "" {
		webhook.ReinvocationPolicy = &again
	}
	return []admissionregistrationv1.MutatingWebhookConfiguration{{
		ObjectMeta: metav1.ObjectMeta{Name: configuration}, Webhooks: []admissionregistrationv1.MutatingWebhook{webhook},
	}}
}

// with adds a container to a pod.
func with(container string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: container})
	}
}

func runs(pod *corev1.Pod) { pod.Status.Phase = corev1.PodRunning }

func (w *world) add(name string, changes ...func(*corev1.Pod)) {
	w.pods = append(w.pods, injectedPod(name, func(pod *corev1.Pod) {
		for _, change := range changes {
			change(pod)
		}
	}))
}

func TestRun(t *testing.T) {
	in := func(namespace string) func(*corev1.Pod) { return func(pod *corev1.Pod) { pod.Namespace = namespace } }
	for name, test := range map[string]struct {
		change func(w *world)
		worst  Level
		check  string
		says   string // in the message
		remedy string
	}{
		"well":                     {func(*world) {}, OK, "webhook", "the API server reaches and trusts", ""},
		"old Kubernetes":           {func(w *world) { w.version = "v1.29.3" }, Fail, "kubernetes", "v1.29.3 is older than 1.30.0", "upgrade"},
		"no webhook":               {func(w *world) { w.noHook = true }, Fail, "webhook", "nothing is injected", "helm upgrade --install"},
		"no caBundle":              {func(w *world) { w.caBundle = nil }, Fail, "webhook", "caBundle is empty", "certs.caBundle"},
		"a caBundle without sense": {func(w *world) { w.caBundle = []byte("x") }, Fail, "webhook", "holds no certificate", "certs.caBundle"},
		"an expired authority":     {func(w *world) { w.caBundle = authority(t, now.Add(-time.Hour)) }, Fail, "webhook", "has expired", "certs.caBundle"},
		"an expired certificate":   {func(w *world) { w.expires = now.Add(-time.Hour) }, Fail, "webhook", "has expired on 2029-12-31 23:00", "renew"},
		"a certificate at its end": {func(w *world) { w.expires = now.Add(time.Minute) }, Warn, "webhook", "is not renewed", "renew"},
		"a certificate":            {func(*world) {}, OK, "webhook", "serves a certificate until 2030-01-01 08:00", ""},
		"workloads not judged":     {func(w *world) { w.workloads = nil }, OK, "webhook", "workloads are not judged", ""},
		"workloads without trust":  {func(w *world) { w.workloads = []byte{} }, Warn, "webhook", "caBundle is empty", "certs.caBundle"},
		"workloads' other trust":   {func(w *world) { w.workloads = authority(t, now.Add(time.Hour)) }, Warn, "webhook", "is not that of mutatingwebhookconfiguration/agentlet", "certs.caBundle"},
		"an agentlet that answers": {func(w *world) {
			w.add("new", runs)
			w.statuses = map[string]*contract.Status{"new": {Consul: "http://10.0.0.11:8500", Services: []contract.ServiceStatus{{Agent: "present"}}}}
		}, OK, "agentlets", "the agentlet of shop/new answers, and reaches the Consul agent at http://10.0.0.11:8500", ""},
		"an agentlet without answer": {func(w *world) { w.add("new", runs) }, Warn, "agentlets", "the agentlet of shop/new doesn't answer", "NetworkPolicy"},
		"an agentlet without Consul": {func(w *world) {
			w.add("new", runs)
			w.statuses = map[string]*contract.Status{"new": {Failing: map[string]string{"b": "no", "a": "refused"}}}
		}, Warn, "agentlets", "tries in vain: a: refused; b: no", "logs new"},
		"a failed hook":        {func(w *world) { w.events = prestop("FailedPreStopHook", time.Minute) }, Warn, "hooks", "preStop hooks of 1 container failed in the last hour, the last one of pod web at 2029-12-31 23:59: connection refused", "the kubelet reaches"},
		"a failed hook of old": {func(w *world) { w.events = prestop("FailedPreStopHook", 2*time.Hour) }, OK, "hooks", "no failed preStop hook", ""},
		"an agentlet that starts": {func(w *world) {
			w.add("new", runs, func(p *corev1.Pod) { p.Status.StartTime = &metav1.Time{Time: now} })
		}, OK, "pods", "pods with an agentlet: 2", ""},
		"a failed hook elsewhere": {func(w *world) { w.events = prestop("FailedPreStopHook", time.Minute); w.namespaces["shop"] = nil }, OK, "hooks", "no failed preStop hook", ""},
		"a LimitRange":            {func(w *world) { w.ratio = "2" }, Warn, "limits", "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000", "set agentlet.dev/memory-request: 64Mi and agentlet.dev/memory-limit: 64Mi, on the pod"},
		"a LimitRange where few names are allowed": {func(w *world) {
			w.ratio, w.annotations = "2", map[string]string{contract.AllowedServices: "shop-*"}
		}, Warn, "limits", "it refuses the agentlet, which has the request 16Mi and the limit 64Mi", ""},
		"a LimitRange, and defaults within it": {func(w *world) {
			w.ratio = "2"
			w.pods[0].Spec.Containers[0].Args = append(w.pods[0].Spec.Containers[0].Args, "--default=memory-request=32Mi")
		}, OK, "limits", "no LimitRange of an opted-in namespace refuses", ""},
		"a LimitRange elsewhere": {func(w *world) { w.ratio = "2"; w.namespaces["shop"] = nil }, OK, "limits", "no LimitRange of an opted-in namespace refuses", ""},
		"another event":          {func(w *world) { w.events = prestop("Killing", time.Minute) }, OK, "hooks", "no failed preStop hook", ""},
		"no replica":             {func(w *world) { w.pods = w.pods[1:] }, Fail, "webhook", "no replica is ready: pods that ask", "scale"},
		"a replica without trust": {func(w *world) {
			w.readyz = answering("", &apiproxy.AnswerError{Status: 503, Body: "[+] certificate: ok\n[-] trust: no bundle\n"})
		}, Fail, "webhook", "not ready: trust: no bundle", "logs webhook-1"},
		"a replica without answer": {func(w *world) { w.readyz = answering("", errors.New("connection refused")) }, Fail, "webhook", "not ready: connection refused", "describe pod"},
		"unreachable":              {func(w *world) { w.dryRun = failing(`failed calling webhook "inject.agentlet.dev": no endpoints`) }, Fail, "webhook", "can't use the webhook", "port 9443"},
		"a name that is not allowed": {func(w *world) {
			w.dryRun = failing(`admission webhook "inject.agentlet.dev" denied the request: service "agentlet-check"`)
		}, OK, "webhook", "it judged a pod here, and refused it", ""},
		"passed over":            {func(w *world) { w.dryRun = func(*corev1.Pod) error { return nil } }, Fail, "webhook", "is not injected", "failurePolicy"},
		"another's refusal":      {func(w *world) { w.dryRun = failing("quota") }, Warn, "webhook", "dry run of a pod failed: quota", "refuses pods"},
		"nobody opted in":        {func(w *world) { delete(w.namespaces, "shop"); w.pods = w.pods[:1] }, OK, "webhook", "no namespace is opted in", "kubectl label namespace"},
		"no policy":              {func(w *world) { w.noPolicy = true }, Warn, "policy", "can patch the status of every pod", "policy.enabled"},
		"an unbound policy":      {func(w *world) { w.noBinding = true }, Fail, "policy", "can patch the status of every pod", "policy.enabled"},
		"no events policy":       {func(w *world) { w.noEvents = true }, Warn, "policy", "can write any event", "policy.enabled"},
		"an unbound one":         {func(w *world) { w.noEventsBinding = true }, Fail, "policy", "can write any event", "policy.enabled"},
		"no grant":               {func(w *world) { w.denied = map[string]bool{"patch": true} }, Fail, "grants", "may not patch pods/status", "read its log"},
		"no grant, not opted in": {func(w *world) { w.denied = map[string]bool{"watch": true}; w.namespaces["shop"] = nil }, Fail, "grants", "may not watch pods", "kubectl label namespace shop agentlet.dev/inject=enabled"},
		"a namespace's defaults": {func(w *world) {
			w.annotations = map[string]string{contract.Readiness: "kubelet", contract.AllowedServices: "web"}
		}, OK, "namespaces", "no wrong annotation on 1 opted-in namespace", ""},
		"a wrong default of a namespace": {
			func(w *world) { w.annotations = map[string]string{contract.Readiness: "kubelt"} }, Warn, "namespaces",
			`annotation agentlet.dev/readiness: "kubelt" has no effect: must be start, kubelet or probe`, "kubectl annotate namespace shop agentlet.dev/readiness-",
		},
		"a default against the installation's": {
			func(w *world) {
				w.pods[0].Spec.Containers[0].Args = append(w.pods[0].Spec.Containers[0].Args, "--default=heartbeat-ttl=3m", "--default=deregister-after=4m")
				w.annotations = map[string]string{contract.DeregisterAfter: "2m"}
			}, Warn, "namespaces", `"2m" has no effect: must not be less than agentlet.dev/heartbeat-ttl (3m)`, "",
		},
		"a pod's annotation on a namespace": {
			func(w *world) { w.annotations = map[string]string{contract.ServiceNames: "web"} }, Warn, "namespaces",
			"annotation agentlet.dev/service-names: has no effect on a namespace", "kubectl annotate namespace shop agentlet.dev/service-names-",
		},
		"wrong globs of a namespace": {
			func(w *world) { w.annotations = map[string]string{contract.AllowedServices: "[a]"} }, Fail, "namespaces",
			`pods with an agentlet are refused: annotation agentlet.dev/allowed-services: "[a]": "[a]" is no glob`, "kubectl annotate --overwrite namespace shop agentlet.dev/allowed-services=GLOBS",
		},
		"wrong defaults elsewhere": {func(w *world) {
			w.annotations = map[string]string{contract.Readiness: "kubelt"}
			clear(w.namespaces)
			w.namespaces["plain"] = nil
		}, OK, "namespaces", "no wrong annotation on 0 opted-in namespaces", ""},
		"leave_on_terminate":     {func(w *world) { w.agents["node1"] = agent(true) }, Warn, "consul", "leave_on_terminate on", "leave_on_terminate=false"},
		"no Consul agent":        {func(w *world) { w.agents["node1"] = refused }, Fail, "consul", "no Consul agent answers at the node's address, port 8501", "Consul client agent"},
		"nodes may not be asked": {func(w *world) { w.agents["node1"] = forbidden }, OK, "consul", "can't be asked from here", ""},
		"an agentlet's word": {func(w *world) {
			w.agents["node1"] = refused
			w.statuses = map[string]*contract.Status{"web": {Services: []contract.ServiceStatus{{Agent: "present"}}}}
		}, OK, "consul", "the agentlet of shop/web has registered", ""},
		"an agentlet that tries": {func(w *world) {
			w.agents["node1"] = refused
			w.statuses = map[string]*contract.Status{"web": {Services: []contract.ServiceStatus{{Agent: "present"}}, Failing: map[string]string{"consul": "refused"}}}
		}, Fail, "consul", "no Consul agent answers", ""},
		"Consul's ACL": {func(w *world) {
			w.agents["node1"] = func(string) ([]byte, error) {
				return nil, fmt.Errorf("get: %w", &apiproxy.AnswerError{Status: 403, Body: "Permission denied: anonymous token"})
			}
		}, OK, "consul", "needs a token", ""},
		"no cluster leader": {func(w *world) {
			self := agent(false)
			w.agents["node1"] = func(path string) ([]byte, error) {
				if path == "v1/status/leader" {
					return []byte(`""`), nil
				}
				return self(path)
			}
		}, Fail, "consul", "no cluster leader", "servers"},
		"something else at the port": {func(w *world) { w.agents["node1"] = func(string) ([]byte, error) { return []byte("<html>"), nil } }, Fail, "consul", "is no Consul agent", ""},
		"in Consul's catalog":        {func(w *world) { w.catalog = nodes{"10.0.0.11": true} }, OK, "consul", "version 1.22.7", ""},
		"not in Consul's catalog":    {func(w *world) { w.catalog = nodes{"10.0.0.99": true} }, Warn, "consul", "no node with one of its addresses", "advertise"},
		"failed in Consul":           {func(w *world) { w.catalog = nodes{"10.0.0.11": false} }, Fail, "consul", "serfHealth", ""},
		"namespace without label":    {func(w *world) { w.add("lost", in("plain"), bare) }, Fail, "pods", "annotated pods (lost) are not registered: the namespace is not opted in", "kubectl label namespace plain agentlet.dev/inject=enabled, then kubectl -n plain delete pod lost"},
		"namespace with another label": {
			func(w *world) {
				w.namespaces["plain"] = map[string]string{contract.InjectLabel: "true"}
				w.add("lost", in("plain"), bare)
			}, Fail, "pods", "the namespace has the label agentlet.dev/inject=true, which must be enabled",
			"kubectl label namespace plain agentlet.dev/inject=enabled --overwrite, then kubectl -n plain delete pod lost",
		},
		"namespace with an annotation": {
			func(w *world) {
				w.annotations = map[string]string{contract.InjectLabel: "enabled"}
				w.add("lost", in("plain"), bare)
			}, Fail, "pods", "the namespace is not opted in: it has agentlet.dev/inject as an annotation, and needs a label",
			"kubectl label namespace plain agentlet.dev/inject=enabled, then",
		},
		"excluded namespace": {func(w *world) { w.add("lost", in("agentlet-system"), bare) }, Fail, "pods", "the webhook excludes it", "webhook.excludedNamespaces"},
		"missed":             {func(w *world) { w.add("missed", bare, owned) }, Fail, "pods", "has no agentlet: it was created before", "kubectl -n shop rollout restart deployment/web"},
		"missed, with a mesh proxy": {func(w *world) {
			w.pods[0].Spec.Containers[0].Args = append(w.pods[0].Spec.Containers[0].Args, "--connect-image=r/consul-envoy:1")
			w.add("missed", bare, meshed)
		}, Fail, "pods", "has no agentlet: it was created before", "create it anew"},
		"missed, with a mesh proxy, by unknown flags": {func(w *world) {
			w.pods = w.pods[1:]
			w.add("missed", bare, meshed)
		}, Fail, "pods", "has no agentlet: it was created before", "create it anew"},
		"missed, with a mesh proxy that nobody has": {func(w *world) {
			w.add("missed", bare, meshed)
		}, Fail, "pods", "this installation has no mesh proxy", "correct them"},
		"missed with errors": {func(w *world) { w.add("missed", bare, func(p *corev1.Pod) { p.Annotations[contract.Gate] = "ajar" }) }, Fail, "pods", "its annotations hold errors", "explain"},
		"missed, with a name that is not allowed": {func(w *world) {
			w.annotations = map[string]string{contract.AllowedServices: "shop-*"}
			w.add("missed", bare)
		}, Fail, "pods", `service "web": pods of this namespace may register only shop-* (annotation agentlet.dev/allowed-services of namespace shop)`, ""},
		"missed, with a tag that is not allowed": {func(w *world) {
			w.annotations = map[string]string{contract.AllowedTags: "!urlprefix-*"}
			w.add("missed", bare, func(p *corev1.Pod) { p.Annotations[contract.ServiceTags] = "urlprefix-/" })
		}, Fail, "pods", `tag "urlprefix-/": pods of this namespace may not register urlprefix-* (annotation agentlet.dev/allowed-tags of namespace shop)`, ""},
		"missed, with what the installation does not allow": {func(w *world) {
			w.add("missed", bare, func(p *corev1.Pod) {
				p.Annotations[contract.ServiceNames], p.Annotations[contract.ServiceTags] = "vault", "traefik.enable=true"
			})
		}, Fail, "pods", `service "vault": pods of this namespace may not register vault (the webhook's --allowed-services), metadata.annotations[agentlet.dev/service-tags]: Forbidden: tag "traefik.enable=true"`, ""},
		"missed, with an allowed name": {func(w *world) {
			w.annotations = map[string]string{contract.AllowedServices: "shop-*,web"}
			w.add("missed", bare, owned)
		}, Fail, "pods", "has no agentlet: it was created before", ""},
		"opted out": {func(w *world) {
			w.add("out", bare, func(p *corev1.Pod) { p.Labels = map[string]string{contract.InjectLabel: "false"} })
		}, OK, "pods", "pods with an agentlet: 1", ""},
		"ended":                   {func(w *world) { w.add("done", bare, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }) }, OK, "pods", "pods with an agentlet: 1", ""},
		"closed for long":         {func(w *world) { w.add("shut", closed(contract.ConsulUnreachable, time.Hour)) }, Fail, "gates", "closed for 1h0m0s: ConsulUnreachable: because", "kubectl -n shop logs shut -c agentlet"},
		"closed a moment ago":     {func(w *world) { w.add("shut", closed(contract.ConsulUnreachable, time.Second)) }, OK, "gates", "1 of 2 gates are open", ""},
		"a copy":                  {func(w *world) { w.add("shut", closed(contract.CopiedPod, time.Hour)) }, Warn, "gates", "CopiedPod", "get pod shut"},
		"the application's fault": {func(w *world) { w.add("shut", closed(contract.ContainersNotReady, time.Hour)) }, Warn, "gates", "ContainersNotReady", "describe pod shut"},
		"never written":           {func(w *world) { w.add("new", func(p *corev1.Pod) { p.Status.Conditions = nil }) }, Fail, "gates", "has not written the gate for 1h0m0s", "logs new -c agentlet"},
		"a gate without agentlet": {func(w *world) {
			w.add("new", func(p *corev1.Pod) { p.Status.Conditions, p.Spec.InitContainers, p.Annotations = nil, nil, nil })
		}, Fail, "gates", "no agentlet that could open it", "template"},
		"an agentlet without image": {func(w *world) {
			w.add("new", func(p *corev1.Pod) { p.Status.Conditions = nil }, waits("ImagePullBackOff", "Back-off pulling image"))
			w.denied = map[string]bool{"patch": true}
		}, Fail, "gates", "has not written the gate for 1h0m0s: the container agentlet waits: ImagePullBackOff: Back-off pulling image", "kubectl -n shop describe pod new"},
		"an agentlet that crashes": {func(w *world) {
			w.add("new", func(p *corev1.Pod) { p.Status.Conditions = nil }, waits("CrashLoopBackOff", ""), ended("OOMKilled", 137))
		}, Fail, "gates", "waits: CrashLoopBackOff; before that it ended: OOMKilled, exit code 137", "logs new -c agentlet --previous"},
		"a crashed agentlet behind an open gate": {func(w *world) {
			w.add("new", runs, waits("CrashLoopBackOff", ""))
		}, Fail, "agentlets", "its agentlet does not run: the container agentlet waits: CrashLoopBackOff", "describe pod new"},
		"a crashed agentlet behind a closed gate": {func(w *world) {
			w.add("new", runs, closed(contract.ConsulUnreachable, time.Hour), waits("CrashLoopBackOff", ""))
		}, Fail, "gates", "because; its agentlet does not run: the container agentlet waits: CrashLoopBackOff", "describe pod new"},
		"a container before the agentlet": {func(w *world) {
			w.add("new", func(p *corev1.Pod) {
				p.Status.Conditions = nil
				p.Spec.InitContainers = append([]corev1.Container{{Name: "first"}}, p.Spec.InitContainers...)
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
					Name: "first", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}},
				}}
			})
		}, Fail, "gates", "the container first waits: ErrImagePull, and the agentlet starts after it", ""},
		"an application without its Secret": {func(w *world) {
			w.add("shut", closed(contract.ContainersNotReady, time.Hour), func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `secret "db" not found`},
				}}}
			})
		}, Warn, "gates", `because; the container web waits: CreateContainerConfigError: secret "db" not found`, "describe pod shut"},
		"a pod of a moment ago": {func(w *world) {
			w.add("new", func(p *corev1.Pod) {
				p.Status.Conditions, p.Spec.ServiceAccountName = nil, "fresh"
				p.Status.StartTime = &metav1.Time{Time: now.Add(-time.Second)}
			}, waits("PodInitializing", ""))
			w.denied = map[string]bool{"fresh": true}
		}, OK, "gates", "1 of 2 gates are open", ""},
		"no grant, and a gate unwritten": {func(w *world) {
			w.add("new", func(p *corev1.Pod) { p.Status.Conditions = nil })
			w.denied = map[string]bool{"patch": true}
		}, Fail, "gates", "its service account may not patch pods/status", "grants"},
		"no grant, and an agentlet of a moment ago": {func(w *world) {
			w.add("new", func(p *corev1.Pod) {
				p.Status.Conditions = nil
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: contract.ContainerName, State: corev1.ContainerState{
					Running: &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: now.Add(-4 * time.Second)}},
				}}}
			})
			w.denied = map[string]bool{"patch": true}
		}, Fail, "gates", "its service account may not patch pods/status", "logs new -c agentlet"},
		"closed, and nobody knows when": {func(w *world) {
			w.add("shut", closed(contract.ConsulUnreachable, 0), timeless)
		}, Fail, "gates", "closed for 1h0m0s: ConsulUnreachable", ""},
		"closed before there was a pod": {func(w *world) {
			w.add("shut", closed(contract.ConsulUnreachable, 10*time.Hour))
		}, Fail, "gates", "closed for 1h0m0s: ConsulUnreachable", ""},
		"closed in the far future": {func(w *world) {
			w.add("shut", closed(contract.ConsulUnreachable, -10*time.Hour))
		}, Fail, "gates", "closed for 1h0m0s: ConsulUnreachable", ""},
		"closed, and no time at all": {func(w *world) {
			w.add("shut", closed(contract.ConsulUnreachable, 0), timeless, func(p *corev1.Pod) { p.Status.StartTime = nil })
		}, OK, "gates", "1 of 2 gates are open", ""},
		"a failed hook of a new kind of event": {func(w *world) {
			w.events = prestop("FailedPreStopHook", time.Minute)
			w.events[0].LastTimestamp, w.events[0].EventTime = metav1.Time{}, metav1.MicroTime{Time: now.Add(-2 * time.Minute)}
		}, Warn, "hooks", "the last one of pod web at 2029-12-31 23:58", ""},
		"a replica that starts": {func(w *world) {
			w.pods = append(w.pods, webhookPod())
			w.pods[2].Name, w.pods[2].Status.StartTime = "webhook-2", &metav1.Time{Time: now.Add(-time.Second)}
			w.readyzOf = map[string]func() ([]byte, error){"webhook-2": answering("", errors.New("connection refused"))}
		}, OK, "webhook", "it is starting", ""},
		"a replica without image": {func(w *world) {
			w.readyz = answering("", errors.New("connection refused"))
			w.pods[0].Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "webhook", State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"},
			}}}
		}, Fail, "webhook", "not ready: the container webhook waits: ImagePullBackOff", "describe pod webhook-1"},
		"a mesh's injector that runs first": {func(w *world) {
			w.others = injectors("a-istio", "rev.namespace.sidecar-injector.istio.io", admissionregistrationv1.NeverReinvocationPolicy)
			w.add("meshed", with("istio-proxy"))
		}, Warn, "webhook", "Istio's injector runs before agentlet's, since agentlet comes after it by name: its proxies may refuse the drain hooks of 1 pod", "fullnameOverride"},
		"another mesh's injector that runs first": {func(w *world) {
			w.others = injectors("a-linkerd", "linkerd-proxy-injector.linkerd.io", "")
			w.add("one", with("linkerd-proxy"))
			w.add("two", with("linkerd-proxy"))
		}, Warn, "webhook", "its proxies may refuse the drain hooks of 2 pods", ""},
		"a mesh's injector that runs later": {func(w *world) {
			w.others = injectors("istio-sidecar-injector", "sidecar-injector.istio.io", admissionregistrationv1.NeverReinvocationPolicy)
			w.add("meshed", with("istio-proxy"))
		}, OK, "webhook", "the API server reaches", ""},
		"a mesh's injector that runs again": {func(w *world) {
			w.others = injectors("a-istio", "sidecar-injector.istio.io", admissionregistrationv1.IfNeededReinvocationPolicy)
			w.add("meshed", with("istio-proxy"))
		}, OK, "webhook", "the API server reaches", ""},
		"a mesh without pods of agentlet's": {func(w *world) {
			w.others = injectors("a-istio", "sidecar-injector.istio.io", admissionregistrationv1.NeverReinvocationPolicy)
			w.add("other", with("linkerd-proxy"))
		}, OK, "webhook", "the API server reaches", ""},
		"a mesh's injector that runs first, of a pod without agentlet": {func(w *world) {
			w.others = injectors("a-istio", "sidecar-injector.istio.io", admissionregistrationv1.NeverReinvocationPolicy)
			w.add("other", bare, with("istio-proxy"), func(pod *corev1.Pod) { pod.Annotations = nil })
		}, OK, "webhook", "the API server reaches", ""},
		"a certificate of no year": {func(w *world) { w.expires = time.Unix(1<<60, 0) }, OK, "webhook", "ready: certificate, trust", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			test.change(w)
			findings := Run(t.Context(), Config{Kube: w.client(), Cluster: w, Consul: w.catalog, Patience: time.Minute, Now: now})
			var text strings.Builder
			Write(printer.New(&text, false), findings)
			if worst := Worst(findings); worst != test.worst {
				t.Errorf("%s, want %s", worst, test.worst)
			}
			for _, f := range findings {
				if f.Check == test.check && strings.Contains(f.Message, test.says) && strings.Contains(f.Remedy, test.remedy) {
					return
				}
			}
			t.Errorf("no finding of %s says %q with the remedy %q:\n%s", test.check, test.says, test.remedy, text.String())
		})
	}
}

// timeless removes the time at which the gate closed.
func timeless(pod *corev1.Pod) { pod.Status.Conditions[0].LastTransitionTime = metav1.Time{} }

// waits sets the kubelet's reason why the agentlet does not run.
func waits(reason, message string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: contract.ContainerName, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
}

// ended sets how the agentlet ended before, as the kubelet reports it.
func ended(reason string, code int32) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Status.InitContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: reason, ExitCode: code}
	}
}

func owned(pod *corev1.Pod) {
	pod.Labels = map[string]string{"pod-template-hash": "5f"}
	pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-5f", Controller: new(true)}}
}

func TestOneNamespace(t *testing.T) {
	w := newWorld(t)
	w.add("lost", func(pod *corev1.Pod) { pod.Namespace = "plain" }, bare)
	if worst := Worst(Run(t.Context(), Config{Kube: w.client(), Cluster: w, Namespace: "shop", Now: now})); worst != OK {
		t.Errorf("%s though the namespace is well", worst)
	}
}

func TestReachedAndWrong(t *testing.T) {
	for name, test := range map[string]struct {
		findings []Finding
		reached  bool
		wrong    int
	}{
		"no API server":  {[]Finding{{Level: Fail, Check: "kubernetes"}}, false, 1},
		"nothing":        {nil, false, 0},
		"a version":      {[]Finding{{Level: OK, Check: "kubernetes"}, {Level: Fail, Check: "kubernetes"}}, true, 1},
		"another check":  {[]Finding{{Level: Fail, Check: "kubernetes"}, {Level: Warn, Check: "webhook"}}, true, 2},
		"ok and skipped": {[]Finding{{Level: OK, Check: "kubernetes"}, {Level: Skip, Check: "consul"}}, true, 0},
	} {
		if reached, wrong := Reached(test.findings), Wrong(test.findings); reached != test.reached || len(wrong) != test.wrong {
			t.Errorf("%s: %v, %+v", name, reached, wrong)
		}
	}
}

func TestTheTimeIsOver(t *testing.T) {
	w := newWorld(t)
	w.dryRun = func(pod *corev1.Pod) error { pod.Spec.InitContainers = nil; return nil }
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	findings := Run(ctx, Config{Kube: w.client(), Cluster: w, Now: now})
	last := findings[len(findings)-1]
	if last.Level != Fail || !strings.Contains(last.Message, "not everything was looked at") || !strings.Contains(last.Remedy, "--timeout") {
		t.Errorf("%+v", findings)
	}
}

// FuzzReport checks that each finding is one line, with one more for its remedy, and without control characters, whatever the
// untrusted texts are.
func FuzzReport(f *testing.F) {
	for _, text := range []string{"because", "no\nok    gates       forged", "\x1b[2J", "\u009b2J", "a\xff", "\u202ek\u2066o", "\u2028", "\r\x7f\x00", "{\"", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := newWorld(t)
		w.version, w.readyz, w.dryRun = "v1.37.1"+text, answering("", &apiproxy.AnswerError{Status: 503, Body: "[-] " + text}), failing(text)
		w.add("closed", runs, closed(contract.Reason(text), time.Hour), waits(text, text))
		w.pods[2].Status.Conditions[0].Message = text
		w.add("unwritten", func(p *corev1.Pod) { p.Status.Conditions = nil }, waits(text, text), ended(text, 1))
		w.add("lost", bare, func(p *corev1.Pod) { p.Annotations[contract.Gate] = text })
		w.add("tries", runs)
		w.statuses = map[string]*contract.Status{"web": {Failing: map[string]string{text: text}}, "tries": {Failing: map[string]string{text: text}}}
		w.agents["node1"] = func(string) ([]byte, error) { return nil, errors.New(text) }
		w.events, w.catalog = prestop("FailedPreStopHook", time.Minute), hostileConsul(text)
		w.events[0].Message, w.events[0].InvolvedObject.Name = text, text
		findings := Run(t.Context(), Config{Kube: w.client(), Cluster: w, Consul: w.catalog, Patience: time.Minute, Now: now})
		want := len(findings) + 2 // an empty line and the summary
		for _, f := range findings {
			if f.Remedy != "" {
				want++
			}
		}
		var out strings.Builder
		Write(printer.New(&out, false), findings)
		lines := strings.SplitAfter(out.String(), "\n")
		if len(lines) != want+1 || lines[want] != "" {
			t.Errorf("%d lines, want %d:\n%s", len(lines)-1, want, out.String())
		}
		for _, line := range lines {
			line = strings.TrimSuffix(line, "\n")
			if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }) {
				t.Errorf("%q", line)
			}
		}
	})
}

// hostileConsul returns this text in every answer.
type hostileConsul string

func (c hostileConsul) Version(context.Context) (string, error) { return string(c), nil }
func (c hostileConsul) Nodes(context.Context, []string) (map[string]bool, error) {
	return nil, errors.New(string(c))
}

// TestByWebhook checks that byWebhook recognizes the errors of today's API servers. If it fails with another version's text, or
// if their Status gets a field for the webhook, adapt byWebhook.
func TestByWebhook(t *testing.T) {
	for name, test := range map[string]struct {
		message      string
		ours, denied bool
	}{
		"denied":           {`admission webhook "inject.agentlet.dev" denied the request: 2 errors:`, true, true},
		"not reached":      {`Internal error occurred: failed calling webhook "inject.agentlet.dev": failed to call webhook: no endpoints available`, true, false},
		"no dry run":       {`admission webhook "inject.agentlet.dev" does not support dry run`, true, false},
		"another's":        {`admission webhook "policy.example" denied the request: not with inject.agentlet.dev`, false, false},
		"without webhooks": {`pods is forbidden: User "a" cannot create resource "pods"`, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			if ours, denied := byWebhook(errors.New(test.message)); ours != test.ours || denied != test.denied {
				t.Errorf("ours %v, denied %v", ours, denied)
			}
		})
	}
}

// TestDeniedByACL checks that only Consul's own rejection is recognized.
func TestDeniedByACL(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"Consul's":         {fmt.Errorf("get: %w", &apiproxy.AnswerError{Status: 403, Body: "Permission denied: token lacks permission 'agent:read'"}), true},
		"another program":  {&apiproxy.AnswerError{Status: 403, Body: "no"}, false},
		"another status":   {&apiproxy.AnswerError{Status: 500, Body: "Permission denied"}, false},
		"a socket's error": {errors.New("connect: Permission denied"), false},
		"none":             {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := deniedByACL(test.err); got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestLimitRangesThatMayNotBeRead are no failure: few users may list them in all namespaces.
func TestLimitRangesThatMayNotBeRead(t *testing.T) {
	w := newWorld(t)
	client := w.client()
	client.PrependReactor("list", "limitranges", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("limitranges"), "", errors.New("no"))
	})
	findings := Run(t.Context(), Config{Kube: client, Cluster: w, Now: now, Patience: time.Minute})
	last := findings[len(findings)-1]
	if last.Check != "limits" || last.Level != Skip || !strings.Contains(last.Message, "can't read limit ranges: limitranges is forbidden") {
		t.Errorf("%+v", last)
	}
}
