package check

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes"
	kubefake "k8s.io/client-go/kubernetes/fake"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	clienttesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// bareWorld is a cluster of two nodes that is ready for an installation; tests break it.
type bareWorld struct {
	version    string
	namespaces map[string]map[string]string // labels by name
	goes       bool                         // the namespace to install into is being deleted
	nodes      []*corev1.Node
	agents     *appsv1.DaemonSet // nil: none
	config     string            // of the agents' ConfigMap
	pods       []*corev1.Pod
	hooks      []admissionregistrationv1.MutatingWebhookConfiguration
	groups     []string                          // API groups
	denied     map[string]bool                   // "VERB RESOURCE", or "VERB RESOURCE in NAMESPACE"
	refused    map[string]error                  // "VERB RESOURCE" of requests
	asked      func(path string) ([]byte, error) // the nodes' Consul agents
	openShift  bool
	consul     Consul
	port       int
	scheme     string
	probe      *Probe
	// probed is what the probe's pod of a node becomes.
	probed func(pod *corev1.Pod)
}

func newBareWorld() *bareWorld {
	w := &bareWorld{
		version: "v1.37.1", namespaces: map[string]map[string]string{"consul": {}, "agentlet-system": {}},
		agents: agentSet(), config: "leave_on_terminate = false\nclient_addr = \"0.0.0.0\"\ndata_dir = \"/consul/data\"", asked: agent(false),
	}
	for _, name := range []string{"node1", "node2"} {
		w.nodes = append(w.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}})
		w.pods = append(w.pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: "client-" + name},
			Spec:       *w.agents.Spec.Template.Spec.DeepCopy(),
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		})
		w.pods[len(w.pods)-1].Spec.NodeName = name
	}
	return w
}

// agentSet returns the agents as docs/consul-on-kubernetes.md runs them.
func agentSet() *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: "consul-client"},
		Spec: appsv1.DaemonSetSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			HostNetwork: true, PriorityClassName: "system-node-critical",
			Containers: []corev1.Container{{
				Name: "consul", Image: "hashicorp/consul:1.22.7", Command: []string{"consul", "agent", "-config-dir=/consul/config"},
				Ports:        []corev1.ContainerPort{{ContainerPort: 8500, HostPort: 8500}},
				VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/consul/config"}, {Name: "data", MountPath: "/consul/data"}},
			}},
			Volumes: []corev1.Volume{
				{Name: "config", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
					ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "config"}},
				}}}}},
				{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/consul"}}},
			},
		}}},
		Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 2},
	}
}

// hashicorp makes the agents those of HashiCorp's chart with its default values.
func (w *bareWorld) hashicorp() {
	template := &w.agents.Spec.Template
	template.Labels = map[string]string{"app": "consul", "chart": "consul-helm", "component": "client"}
	spec := &template.Spec
	spec.HostNetwork, spec.PriorityClassName = false, ""
	spec.Containers[0].Command = []string{"/bin/sh", "-ec", `
exec /usr/local/bin/docker-entrypoint.sh consul agent \
  -node="${NODE}" \
  -advertise="${ADVERTISE_IP}" \
  -bind=0.0.0.0 \
  -client=0.0.0.0 \
  -hcl='leave_on_terminate = true' \
  -config-dir=/consul/config \
  -data-dir=/consul/data \
`}
	spec.Containers[0].Env = []corev1.EnvVar{{Name: "ADVERTISE_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
	spec.Volumes[1] = corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
	for _, pod := range w.pods {
		node := pod.Spec.NodeName
		pod.Labels, pod.Spec = template.Labels, *spec.DeepCopy()
		pod.Spec.NodeName = node
	}
}

func (w *bareWorld) container() *corev1.Container { return &w.agents.Spec.Template.Spec.Containers[0] }

func (*bareWorld) Pod(context.Context, string, string, string, string) ([]byte, error) {
	return nil, errors.New("not expected")
}

func (*bareWorld) Status(context.Context, *corev1.Pod) (*contract.Status, error) {
	return nil, errors.New("not expected")
}

func (w *bareWorld) Node(_ context.Context, _, _ string, _ int, path string) ([]byte, error) {
	return w.asked(path)
}

func (w *bareWorld) client() *kubefake.Clientset {
	objects := []runtime.Object{&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: "config"}, Data: map[string]string{"client.hcl": w.config},
	}}
	if w.agents != nil {
		objects = append(objects, w.agents)
	}
	for name, labels := range w.namespaces {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
		if w.goes && name == "agentlet-system" {
			namespace.DeletionTimestamp, namespace.Finalizers = &metav1.Time{Time: now}, []string{"kubernetes"}
		}
		objects = append(objects, namespace)
	}
	for _, node := range w.nodes {
		objects = append(objects, node)
	}
	for _, pod := range w.pods {
		objects = append(objects, pod)
	}
	for i := range w.hooks {
		objects = append(objects, &w.hooks[i])
	}
	client := kubefake.NewClientset(objects...)
	discovery := client.Discovery().(*fake.FakeDiscovery)
	discovery.FakedServerVersion = &version.Info{GitVersion: w.version}
	for _, group := range w.groups {
		discovery.Resources = append(discovery.Resources, &metav1.APIResourceList{GroupVersion: group + "/v1"})
	}
	client.PrependReactor("*", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		err := w.refused[action.GetVerb()+" "+action.GetResource().Resource]
		return err != nil, nil, err
	})
	client.PrependReactor("create", "selfsubjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		asked := review.Spec.ResourceAttributes
		right := asked.Verb + " " + strings.TrimSuffix(asked.Resource+"/"+asked.Subresource, "/")
		review.Status.Allowed = !w.denied[right] && !w.denied[right+" in "+asked.Namespace]
		return true, review, nil
	})
	var names sync.Mutex
	client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		pod := action.(clienttesting.CreateAction).GetObject().(*corev1.Pod)
		names.Lock()
		defer names.Unlock()
		w.probed(pod)
		return false, nil, nil
	})
	return client
}

func (w *bareWorld) run(t *testing.T, client *kubefake.Clientset) []Finding {
	t.Helper()
	return RunPre(t.Context(), Pre{
		Config:    Config{Kube: client, Cluster: w, Consul: w.consul, ConsulPort: w.port, ConsulScheme: w.scheme, Now: now},
		Into:      "agentlet-system",
		OpenShift: func(context.Context) (bool, error) { return w.openShift, w.refused["openshift"] }, Probe: w.probe,
	})
}

func probeEnded(pod *corev1.Pod, message string, exit int32) {
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "probe", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: exit, Message: message},
	}}}
}

// probing has the pods of the nodes answer this.
func (w *bareWorld) probing(found contract.AgentProbe) {
	w.probe, w.asked = &Probe{Image: "registry.example/agentlet:1", Patience: time.Minute}, refused
	w.probed = func(pod *corev1.Pod) {
		text, _ := json.Marshal(found)
		probeEnded(pod, string(text), 0)
	}
}

func TestRunPre(t *testing.T) {
	notFound := apierrors.NewNotFound(schema.GroupResource{}, "")
	no := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no"))
	for name, test := range map[string]struct {
		change func(w *bareWorld)
		worst  Level
		check  string
		says   string // in the message
		remedy string
	}{
		"ready":                         {func(*bareWorld) {}, OK, "consul", "Consul agent node1, version 1.22.7, leave_on_terminate off", ""},
		"a namespace that is there":     {func(*bareWorld) {}, OK, "namespaces", "it names no Pod Security Standard", ""},
		"a restricted namespace":        {func(w *bareWorld) { w.namespaces["agentlet-system"] = map[string]string{enforceLabel: "restricted"} }, OK, "namespaces", "it enforces the Pod Security Standard restricted: the webhook's pods", ""},
		"a namespace that is not":       {func(w *bareWorld) { delete(w.namespaces, "agentlet-system") }, OK, "namespaces", "it does not exist yet", ""},
		"a namespace that goes":         {func(w *bareWorld) { w.goes = true }, Fail, "namespaces", "it is being deleted", "--for=delete namespace/agentlet-system"},
		"restricted namespaces":         {func(w *bareWorld) { w.namespaces["shop"] = map[string]string{enforceLabel: "restricted"} }, OK, "namespaces", "1 namespace enforces restricted, which the agentlet meets", ""},
		"a supported Kubernetes":        {func(w *bareWorld) { w.version = "v1.30.0" }, OK, "kubernetes", "version v1.30.0", ""},
		"an old Kubernetes":             {func(w *bareWorld) { w.version = "v1.29.9" }, Fail, "kubernetes", "older than 1.30.0", "upgrade"},
		"a new Kubernetes":              {func(w *bareWorld) { w.version = "v1.38.0" }, Warn, "kubernetes", "newer than 1.37", "docs/supported.md"},
		"not installed":                 {func(*bareWorld) {}, OK, "webhook", "not installed yet", ""},
		"installed":                     {func(w *bareWorld) { w.hooks = injectors("agentlet", "inject.agentlet.dev", "") }, Warn, "webhook", "is installed already", "kubectl agentlet check"},
		"admission policies":            {func(*bareWorld) {}, OK, "policy", "has ValidatingAdmissionPolicy", ""},
		"no admission policies":         {func(w *bareWorld) { w.refused = map[string]error{"list validatingadmissionpolicies": notFound} }, Fail, "policy", "has no ValidatingAdmissionPolicy", "--runtime-config"},
		"policies that may not be read": {func(w *bareWorld) { w.refused = map[string]error{"list validatingadmissionpolicies": no} }, OK, "policy", "can't see", ""},
		"all rights":                    {func(*bareWorld) {}, OK, "rights", "may install, upgrade and remove the chart in namespace agentlet-system", ""},
		"missing rights": {func(w *bareWorld) {
			w.denied = map[string]bool{"create clusterroles": true, "delete clusterroles": true, "patch secrets": true}
		}, Fail, "rights", "lacks: patch secrets, create/delete clusterroles", "cluster-admin"},
		"no right in the namespace": {func(w *bareWorld) {
			w.denied = map[string]bool{"create deployments in agentlet-system": true}
		}, Fail, "rights", "lacks: create deployments", "cluster-admin"},
		"a namespace that need not be made": {func(w *bareWorld) { w.denied = map[string]bool{"create namespaces": true} }, OK, "rights", "may install", ""},
		"no right to Helm's records": {func(w *bareWorld) {
			w.denied = map[string]bool{"list secrets": true, "update secrets": true}
		}, Fail, "rights", "lacks: list/update secrets", "cluster-admin"},
		"no right to grant": {func(w *bareWorld) {
			w.denied = map[string]bool{"escalate clusterroles": true, "patch pods/status": true}
		}, Fail, "rights", "patch pods/status (which the chart's ClusterRoles grant)", "cluster-admin"},
		"all rights that it grants": {func(w *bareWorld) { w.denied = map[string]bool{"escalate clusterroles": true} }, OK, "rights", "may install", ""},
		"no right to make the namespace": {func(w *bareWorld) {
			delete(w.namespaces, "agentlet-system")
			w.denied = map[string]bool{"create namespaces": true}
		}, Fail, "rights", "this account may not create it", "kubectl create namespace agentlet-system"},
		"no reviews": {func(w *bareWorld) { w.refused = map[string]error{"create selfsubjectaccessreviews": no} }, OK, "kubernetes", "version", ""},

		"Windows":        {func(w *bareWorld) { w.nodes[0].Labels[corev1.LabelOSStable] = "windows" }, Warn, "nodes", "it runs Windows", "nodeSelector"},
		"a virtual node": {func(w *bareWorld) { w.nodes[0].Labels["type"] = "virtual-kubelet" }, Warn, "nodes", "virtual node", "nodeSelector"},
		"a virtual node, by its taint": {func(w *bareWorld) {
			w.nodes[0].Spec.Taints = []corev1.Taint{{Key: "virtual-kubelet.io/provider"}}
		}, Warn, "nodes", "virtual node", "nodeSelector"},
		"Fargate":          {func(w *bareWorld) { w.nodes[0].Labels["eks.amazonaws.com/compute-type"] = "fargate" }, Warn, "nodes", "of Fargate", "nodeSelector"},
		"Autopilot":        {func(w *bareWorld) { w.nodes[0].Name = "gk3-shop-pool-1" }, Warn, "nodes", "1 node of GKE Autopilot", "Standard"},
		"beside Autopilot": {func(w *bareWorld) { w.nodes[0].Name = "gk3-shop-pool-1" }, Warn, "nodes", "1 node can run a Consul agent", ""},
		"usable nodes":     {func(*bareWorld) {}, OK, "nodes", "2 nodes can run a Consul agent", ""},
		"no OpenShift":     {func(*bareWorld) {}, OK, "platform", "no OpenShift", ""},
		"OpenShift":        {func(w *bareWorld) { w.openShift = true }, OK, "platform", "this is OpenShift", ""},
		"OpenShift that refuses agents": {func(w *bareWorld) {
			w.openShift, w.agents.Status.NumberReady = true, 0
		}, Fail, "platform", "OpenShift may refuse its pods", "global.openshift.enabled=true"},
		"an unknown platform": {func(w *bareWorld) { w.refused = map[string]error{"openshift": no} }, OK, "platform", "can't see whether this is OpenShift", ""},
		"no mesh":             {func(*bareWorld) {}, OK, "mesh", "no Istio and no Linkerd", ""},
		"Istio, by its API":   {func(w *bareWorld) { w.groups = []string{"networking.istio.io"} }, OK, "mesh", "Istio is here", ""},
		"Linkerd, by its API": {func(w *bareWorld) { w.groups = []string{"policy.linkerd.io"} }, OK, "mesh", "Linkerd is here", ""},
		"Istio, by a label":   {func(w *bareWorld) { w.namespaces["shop"] = map[string]string{"istio-injection": "enabled"} }, OK, "mesh", "docs/mesh.md", ""},
		"Istio, after agentlet": {func(w *bareWorld) {
			w.hooks = injectors("istio-sidecar-injector", "rev.namespace.sidecar-injector.istio.io", "")
		}, OK, "mesh", "Istio is here", ""},
		"Istio, before agentlet": {func(w *bareWorld) { w.hooks = injectors("a-istio", "sidecar-injector.istio.io", "") }, Warn, "mesh", "Istio's injector would run before", "fullnameOverride"},
		"Istio, once more":       {func(w *bareWorld) { w.hooks = injectors("a-istio", "sidecar-injector.istio.io", "IfNeeded") }, OK, "mesh", "Istio is here", ""},

		"leave_on_terminate off, by a file": {func(*bareWorld) {}, OK, "consul", "leave_on_terminate is off, by a ConfigMap", ""},
		"what is commented out": {func(w *bareWorld) {
			w.config += "\n# leave_on_terminate = true\n\n  // acl {\n  //   enabled = true\n  // }\n"
		}, OK, "consul", "leave_on_terminate is off, by a ConfigMap", ""},
		"an address is no comment": {func(w *bareWorld) {
			w.config = "data_dir = \"/consul/data\" ui_config { url = \"https://x#y\" } client_addr = \"0.0.0.0\" leave_on_terminate = false"
		}, OK, "consul", "leave_on_terminate is off, by a ConfigMap", ""},
		"leave_on_terminate on, by a file": {func(w *bareWorld) {
			w.config = `{"leave_on_terminate": true, "client_addr": "0.0.0.0", "data_dir": "/consul/data"}`
		}, Warn, "consul", "leave_on_terminate is on, by a ConfigMap", "leave_on_terminate=false"},
		"leave_on_terminate by default": {func(w *bareWorld) { w.config = `client_addr = "0.0.0.0"` }, Warn, "consul", "is on by default", "leave_on_terminate=false"},
		"a file that may not be read":   {func(w *bareWorld) { w.refused = map[string]error{"get configmaps": no} }, OK, "consul", "can't see whether leave_on_terminate is on", ""},
		"servers' leave_on_terminate": {func(w *bareWorld) {
			w.config = "server = true\naddresses { http = \"0.0.0.0\" }"
		}, OK, "consul", "leave_on_terminate is off, by default for servers", ""},
		"HashiCorp's leave_on_terminate": {(*bareWorld).hashicorp, Warn, "consul", "leave_on_terminate is on, by its arguments", "Helm post-renderer"},
		"HashiCorp's data":               {(*bareWorld).hashicorp, Warn, "consul", "the data of its Consul agents is lost", "client.dataDirectoryHostPath=/var/lib/consul"},
		"HashiCorp's address":            {(*bareWorld).hashicorp, Warn, "consul", "advertise their pod's IP", "client.exposeGossipPorts=true"},
		"HashiCorp's priority":           {(*bareWorld).hashicorp, Warn, "consul", "no priority class", "client.priorityClassName=system-node-critical"},
		"HashiCorp's, with HTTPS only": {func(w *bareWorld) {
			w.hashicorp()
			w.container().Command[2] += "-hcl='ports { https = 8501 }' -hcl='ports { http = -1 }'"
			w.container().Ports = []corev1.ContainerPort{{ContainerPort: 8501, HostPort: 8501}}
		}, Fail, "consul", "answer by HTTPS at port 8501", "global.tls.httpsOnly=false"},
		"HashiCorp's, with HTTPS": {func(w *bareWorld) {
			w.hashicorp()
			w.container().Ports = []corev1.ContainerPort{{ContainerPort: 8501, HostPort: 8501}}
			w.port, w.scheme = 8501, "https"
		}, Warn, "consul", "in the Secret consul-ca-cert, key tls.crt", ""},
		"HashiCorp's, with ACLs": {func(w *bareWorld) {
			w.hashicorp()
			w.agents.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "client-acl-init"}}
		}, Warn, "consul", "HashiCorp's chart gives its agents' tokens node:write", ""},
		"agents at no port of the node": {func(w *bareWorld) {
			w.agents.Spec.Template.Spec.HostNetwork, w.container().Ports = false, nil
		}, Fail, "consul", "they have neither hostNetwork nor this hostPort", "client.hostNetwork=true"},
		"agents at loopback": {func(w *bareWorld) { w.config = "leave_on_terminate = false" }, Warn, "consul", "listens at 127.0.0.1 alone", "-client"},
		"data that is lost": {func(w *bareWorld) {
			w.agents.Spec.Template.Spec.Volumes[1].VolumeSource = corev1.VolumeSource{}
			w.agents.Spec.Template.Spec.Volumes[1].EmptyDir = &corev1.EmptyDirVolumeSource{}
		}, Warn, "consul", "is lost with each pod", "hostPath at /consul/data"},
		"agents that are ready":     {func(*bareWorld) {}, OK, "consul", "its Consul agents are ready on 2 nodes", ""},
		"agents that are not ready": {func(w *bareWorld) { w.agents.Status.NumberReady = 1 }, Fail, "consul", "1 of 2 Consul agents are not ready", "describe daemonset consul-client"},
		"agents that Pod Security refuses": {func(w *bareWorld) {
			w.agents.Status.NumberReady, w.namespaces["consul"] = 0, map[string]string{enforceLabel: "baseline"}
		}, Fail, "consul", "enforces the Pod Security Standard baseline", "enforce=privileged"},
		"DaemonSets that may not be read": {func(w *bareWorld) { w.refused = map[string]error{"list daemonsets": no} }, OK, "consul", "can't read the DaemonSets", ""},

		"an agent that leaves":         {func(w *bareWorld) { w.asked = agent(true) }, Warn, "consul", "leave_on_terminate on: a restart", "Helm post-renderer"},
		"an old Consul":                {func(w *bareWorld) { w.asked = answer(`{"Config":{"Version":"1.13.9","NodeName":"n"}}`, `"a"`) }, Fail, "consul", "1.13.9, which is older than 1.14.0", "global.image"},
		"no leader":                    {func(w *bareWorld) { w.asked = answer(`{"Config":{"Version":"1.22.7","NodeName":"n"}}`, `""`) }, Fail, "consul", "no cluster leader", "servers run"},
		"another program":              {func(w *bareWorld) { w.asked = answer(`hello`, `hello`) }, Fail, "consul", "what answers there is no Consul agent", "client_addr"},
		"agents that may not be asked": {func(w *bareWorld) { w.asked = forbidden }, OK, "consul", "by its manifest, the pod consul/client-node1 answers at port 8500; it was not asked", ""},
		"agents of the nodes' own that may not be asked": {func(w *bareWorld) {
			w.asked, w.agents, w.pods = forbidden, nil, nil
		}, OK, "consul", "can't be asked from here", ""},
		"an agent that does not answer": {func(w *bareWorld) { w.asked = refused }, Fail, "consul", "in pod consul/client-node1 doesn't answer at the node's IP", "firewall"},
		"an agent that is not ready": {func(w *bareWorld) {
			w.asked, w.pods[0].Status.Conditions = forbidden, nil
		}, Fail, "consul", "the Consul agent in pod consul/client-node1 is not ready", "describe pod"},
		"no agent":             {func(w *bareWorld) { w.asked, w.agents, w.pods = refused, nil, nil }, Fail, "consul", "at the IP of any of 2 nodes, port 8500: connection refused", "consulAgents.enabled=true (docs/consul-agents.md); with HashiCorp's chart set client.enabled=true"},
		"no agent on one node": {func(w *bareWorld) { w.asked, w.pods = refused, w.pods[1:] }, Fail, "consul", "no Consul agent answers at its IP, port 8500", "docs/consul-on-kubernetes.md"},
		"HashiCorp's servers alone": {func(w *bareWorld) {
			w.hashicorp()
			w.asked, w.agents, w.pods = refused, nil, w.pods[:1]
			w.pods[0].Labels = map[string]string{"chart": "consul-helm", "component": "server"}
			w.pods[0].Spec.Containers[0].Ports = nil
		}, Fail, "consul", "at the IP of any of 2 nodes", "runs servers here, and no client agents: set client.enabled=true, " + hostNetworkValues + "; or install Agentlet with consulAgents.enabled=true"},
		"ACLs":                           {func(w *bareWorld) { w.config += "\nacl {\n  enabled = true\n}" }, Warn, "consul", "Consul's ACLs are on", "consul.acl.mode"},
		"ACLs, and who gives node:write": {func(w *bareWorld) { w.config += "\nacl {\n  enabled = true\n}" }, Warn, "consul", "can't see whether the agents' own token", ""},
		"a catalog without the node":     {func(w *bareWorld) { w.consul = nodes{} }, Warn, "consul", "catalog has no node with one of its addresses", "node:write"},

		"a probe": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{Leader: "a", Version: "1.22.7", Name: "n", InCatalog: new(true)})
		}, OK, "consul", "Consul agent n, version 1.22.7, leave_on_terminate off", ""},
		"a probe without an agent": {func(w *bareWorld) { w.probing(contract.AgentProbe{Error: "connection refused"}) }, Fail, "consul", "connection refused", ""},
		"a probe without a leader": {func(w *bareWorld) { w.probing(contract.AgentProbe{Version: "1.22.7"}) }, Fail, "consul", "no cluster leader", ""},
		"a probe that is denied":   {func(w *bareWorld) { w.probing(contract.AgentProbe{Leader: "a", NeedsToken: true}) }, Warn, "consul", "Consul's ACLs are on", "docs/consul.md"},
		"a probe of an agent that leaves": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{Leader: "a", Version: "1.22.7", LeavesOnTerminate: true})
		}, Warn, "consul", "leave_on_terminate on", "Helm post-renderer"},
		"a probe that the catalog doesn't have": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{Leader: "a", Version: "1.22.7", InCatalog: new(false)})
		}, Warn, "consul", "catalog has no node with one of its addresses", "node:write"},
		"a probe of another image": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{})
			w.asked, w.probed = agent(false), func(pod *corev1.Pod) { probeEnded(pod, `agentlet: unknown command "probe-consul"`, 1) }
		}, Warn, "nodes", `ended with exit code 1: "agentlet: unknown command`, "--probe-nodes"},
		"a probe whose image is not there": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{})
			w.asked, w.probed = agent(false), func(pod *corev1.Pod) {
				pod.Status.Phase = corev1.PodPending
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "probe", State: corev1.ContainerState{
					Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"},
				}}}
			}
		}, Warn, "nodes", "ImagePullBackOff: no such image", "image is pulled"},
		"a probe that is not admitted": {func(w *bareWorld) {
			w.probing(contract.AgentProbe{})
			w.asked, w.refused = agent(false), map[string]error{"create pods": no}
		}, Warn, "nodes", "create its pod: things is forbidden", "admits the pod"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBareWorld()
			test.change(w)
			client := w.client()
			findings := w.run(t, client)
			if worst := Worst(findings); worst != test.worst {
				t.Errorf("worst: %s, want %s", worst, test.worst)
			}
			if !slices.ContainsFunc(findings, func(f Finding) bool {
				return f.Check == test.check && strings.Contains(f.Message, test.says) && strings.Contains(f.Remedy, test.remedy)
			}) {
				t.Errorf("no finding of %s says %q with the remedy %q", test.check, test.says, test.remedy)
			}
			for _, f := range findings {
				if (f.Level == Warn || f.Level == Fail) && f.Remedy == "" {
					t.Errorf("no remedy: %+v", f)
				}
				if t.Failed() {
					t.Logf("%+v", f)
				}
			}
			written(t, client, w.probe != nil)
		})
	}
}

// awayWorld is one in which nothing answers at nodes whose names begin with away.
type awayWorld struct{ *bareWorld }

func (w awayWorld) Node(ctx context.Context, scheme, node string, port int, path string) ([]byte, error) {
	if strings.HasPrefix(node, "away") {
		return nil, errors.New("no route to " + node)
	}
	return w.bareWorld.Node(ctx, scheme, node, port, path)
}

// TestEachNodeHasItsOwnError checks that a finding about one node says nothing of another.
func TestEachNodeHasItsOwnError(t *testing.T) {
	w := newBareWorld()
	for _, name := range []string{"away1", "away2"} {
		w.nodes = append(w.nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}})
	}
	findings := RunPre(t.Context(), Pre{
		Config: Config{Kube: w.client(), Cluster: awayWorld{w}, Now: now}, Into: "agentlet-system",
		OpenShift: func(context.Context) (bool, error) { return false, nil },
	})
	for _, name := range []string{"away1", "away2"} {
		if !slices.ContainsFunc(findings, func(f Finding) bool {
			return f.Level == Fail && f.Subject == "node/"+name && strings.HasSuffix(f.Message, "no route to "+name)
		}) {
			t.Errorf("%s: %+v", name, findings)
		}
	}
}

// TestTheCatalogLacksANodeOnce has both the probes and Consul's API say that the catalog doesn't have the nodes.
func TestTheCatalogLacksANodeOnce(t *testing.T) {
	w := newBareWorld()
	w.probing(contract.AgentProbe{Leader: "a", Version: "1.22.7", InCatalog: new(false)})
	w.consul = nodes{}
	found := 0
	for _, f := range w.run(t, w.client()) {
		if strings.Contains(f.Message, "catalog has no node") {
			found++
		}
	}
	if found != len(w.nodes) {
		t.Errorf("%d findings for %d nodes", found, len(w.nodes))
	}
}

// TestLaterFilesCount checks that of two files of a folder that of the last name wins, as in Consul.
func TestLaterFilesCount(t *testing.T) {
	w := newBareWorld()
	client := w.client()
	files := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "consul", Name: "config"}, Data: map[string]string{"9.hcl": "leave_on_terminate = false"}}
	for _, name := range []string{"1.hcl", "2.hcl", "3.hcl", "4.hcl", "5.hcl", "6.hcl", "7.hcl", "8.hcl"} {
		files.Data[name] = "leave_on_terminate = true"
	}
	if err := client.Tracker().Update(corev1.SchemeGroupVersion.WithResource("configmaps"), files, "consul"); err != nil {
		t.Fatal(err)
	}
	r := &preRun{run: run{Config: Config{Kube: client}}}
	agents := &consulAgents{set: w.agents, container: w.container()}
	r.readConfig(t.Context(), agents)
	if got := setting("leave_on_terminate", agents.config); got != "false" {
		t.Errorf("%q by\n%s", got, agents.config)
	}
}

// answer returns a Consul agent with these answers.
func answer(self, leader string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if path == "v1/status/leader" {
			return []byte(leader), nil
		}
		return []byte(self), nil
	}
}

// written checks that nothing was written but reviews, and that all pods of probes are gone.
func written(t *testing.T, client *kubefake.Clientset, probing bool) {
	t.Helper()
	for _, action := range client.Actions() {
		verb, resource := action.GetVerb(), action.GetResource().Resource
		if verb != "get" && verb != "list" && resource != "selfsubjectaccessreviews" && (!probing || resource != "pods") {
			t.Errorf("%s %s", verb, resource)
		}
	}
	left, err := client.CoreV1().Pods("agentlet-system").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) > 0 {
		t.Errorf("left: %v, %v", left.Items, err)
	}
}

// TestProbesAreDeletedAfterTheEnd checks that the pods go where the run is ended, or they take too long.
func TestProbesAreDeletedAfterTheEnd(t *testing.T) {
	for name, patience := range map[string]time.Duration{"ended": time.Minute, "too long": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newBareWorld()
			w.probing(contract.AgentProbe{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.probe.Patience = patience
			w.probed = func(pod *corev1.Pod) {
				pod.Status.Phase = corev1.PodRunning
				if name == "ended" {
					cancel()
				}
			}
			client := w.client()
			findings := RunPre(ctx, Pre{
				Config:    Config{Kube: client, Cluster: w, Now: now},
				Into:      "agentlet-system",
				OpenShift: func(context.Context) (bool, error) { return false, nil }, Probe: w.probe,
			})
			if Worst(findings) != Fail {
				t.Errorf("%+v", findings)
			}
			written(t, client, true)
		})
	}
}

// slowPods is an API server that has stored a pod before its answer comes: the answer is lost where the request has ended by then.
type slowPods struct {
	kubernetes.Interface
	stored func()
	lost   error // the answer is this one instead
}

type slowCore struct {
	typedcorev1.CoreV1Interface
	slow *slowPods
}

type slowPod struct {
	typedcorev1.PodInterface
	slow *slowPods
}

func (s *slowPods) CoreV1() typedcorev1.CoreV1Interface { return slowCore{s.Interface.CoreV1(), s} }

func (c slowCore) Pods(namespace string) typedcorev1.PodInterface {
	return slowPod{c.CoreV1Interface.Pods(namespace), c.slow}
}

func (p slowPod) Create(ctx context.Context, pod *corev1.Pod, options metav1.CreateOptions) (*corev1.Pod, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		return nil, errors.New("the creation has no bound")
	}
	created, err := p.PodInterface.Create(ctx, pod, options)
	p.slow.stored()
	if err := errors.Join(ctx.Err(), p.slow.lost); err != nil {
		return nil, err
	}
	return created, err
}

func (p slowPod) Delete(ctx context.Context, name string, options metav1.DeleteOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return p.PodInterface.Delete(ctx, name, options)
}

// TestProbesAreDeletedWithoutAnAnswer checks that the pods go where the run is ended while the API server stores them, or its answer is lost.
func TestProbesAreDeletedWithoutAnAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		ends bool
		lost error
		want string
	}{
		"ended":                 {ends: true, want: "context canceled"},
		"the answer is lost":    {lost: errors.New("connection reset"), want: "create its pod: connection reset"},
		"ended and lost":        {ends: true, lost: errors.New("connection reset"), want: "create its pod: connection reset"},
		"a proxy's error":       {lost: apierrors.NewGenericServerResponse(502, "create", schema.GroupResource{}, "", "bad gateway", 0, true), want: "create its pod"},
		"the server's time-out": {lost: apierrors.NewTimeoutError("slow", 1), want: "create its pod"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newBareWorld()
			w.probing(contract.AgentProbe{})
			w.probed = func(pod *corev1.Pod) { pod.Status.Phase = corev1.PodRunning }
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			client := w.client()
			slow := &slowPods{Interface: client, lost: test.lost, stored: func() {
				if test.ends {
					cancel()
				}
			}}
			r := &preRun{run: run{Config: Config{Kube: slow}}, pre: Pre{Into: "agentlet-system", Probe: w.probe}}
			out := &run{}
			if _, err := r.probeNode(ctx, out, "node1"); err == nil || !strings.Contains(err.Error(), test.want) || len(out.findings) > 0 {
				t.Errorf("want %q, got %v, %+v", test.want, err, out.findings)
			}
			written(t, client, true)
			if len(client.Actions()) == 0 {
				t.Error("no pod was created")
			}
			client.ClearActions()
			if _, err := r.probeNode(ctx, out, "node2"); test.ends && (err == nil || len(client.Actions()) > 0) {
				t.Errorf("a pod was created after the end: %v, %v", err, client.Actions())
			}
		})
	}
}

// TestAProbesContainerMayBeCreatedFirst has a pod that waits for its image, as most do at first.
func TestAProbesContainerMayBeCreatedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBareWorld()
		w.probing(contract.AgentProbe{Leader: "a"})
		client, looks := w.client(), 0
		client.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			looks++
			return looks == 1, &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{
				{Name: "probe", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}},
			}}}, nil
		})
		r := &preRun{run: run{Config: Config{Kube: client}}, pre: Pre{Into: "agentlet-system", Probe: w.probe}}
		if found, err := r.probeNode(t.Context(), &run{}, "node1"); err != nil || found.Leader != "a" || looks != 2 {
			t.Errorf("%+v, %v, after %d looks", found, err, looks)
		}
	})
}

// TestNodesAreNotProbedAfterTheEnd checks that the end of a run is not a finding about each node that it has not come to.
func TestNodesAreNotProbedAfterTheEnd(t *testing.T) {
	w := newBareWorld()
	w.probing(contract.AgentProbe{})
	client := w.client()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &preRun{run: run{Config: Config{Kube: client}, facts: facts{nodes: make([]corev1.Node, 2)}}, pre: Pre{Into: "agentlet-system", Probe: w.probe}}
	r.probe(ctx)
	if len(r.findings) > 0 || len(client.Actions()) > 0 {
		t.Errorf("found %+v, called %v", r.findings, client.Actions())
	}
}

// TestProbePodIsRestricted checks the probe's pod against the Pod Security Standard restricted, and that nothing gets into it.
func TestProbePodIsRestricted(t *testing.T) {
	w := newBareWorld()
	w.probing(contract.AgentProbe{})
	r := &preRun{run: run{Config: Config{ConsulPort: 8501, ConsulScheme: "https"}}, pre: Pre{Into: "shop", Probe: w.probe}}
	pod := r.probePod("node1")
	c := pod.Spec.Containers[0]
	if !*pod.Spec.SecurityContext.RunAsNonRoot || *c.SecurityContext.AllowPrivilegeEscalation || pod.Spec.SecurityContext.SeccompProfile.Type != "RuntimeDefault" ||
		!slices.Equal(c.SecurityContext.Capabilities.Drop, []corev1.Capability{"ALL"}) || pod.Spec.HostNetwork || len(pod.Spec.Volumes) > 0 {
		t.Errorf("%+v", pod.Spec)
	}
	if *pod.Spec.AutomountServiceAccountToken || pod.Spec.NodeName != "node1" || *pod.Spec.ActiveDeadlineSeconds != 60 || pod.Annotations[contract.InjectLabel] != "false" {
		t.Errorf("%+v", pod)
	}
	if !slices.Equal(c.Args, []string{"probe-consul", "--to=/dev/termination-log", "--consul-port=8501", "--consul-scheme=https"}) {
		t.Errorf("%q", c.Args)
	}
}

// TestRightsAreThoseOfTheChart checks that each kind of the chart's objects is asked for, or is known to be optional.
func TestRightsAreThoseOfTheChart(t *testing.T) {
	optional := map[string]bool{
		"Issuer": true, "Certificate": true, "ConfigMap": true, "ServiceMonitor": true, "PodMonitor": true, "PrometheusRule": true,
		"ResourceQuota": true, "DaemonSet": true,
	}
	asked := map[string]bool{}
	for _, right := range installRights {
		asked[right.kind] = true
	}
	files, err := filepath.Glob("../../../charts/agentlet/templates/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	kinds := map[string]bool{"Secret": true} // Helm's own
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^kind: (\w+)`).FindAllStringSubmatch(string(text), -1) {
			kinds[found[1]] = true
			if !asked[found[1]] && !optional[found[1]] {
				t.Errorf("%s has a %s, which the rights don't have", file, found[1])
			}
		}
	}
	for kind := range asked {
		if !kinds[kind] {
			t.Errorf("the chart has no %s", kind)
		}
	}
}

// TestNewestIsThatOfTheDocs checks that docs and check name the same versions.
func TestVersionsAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/supported.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{strings.TrimSuffix(oldest, ".0") + " to " + newestTried, strings.TrimSuffix(oldestConsul, ".0") + " and newer"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/supported.md doesn't say %q", want)
		}
	}
}

func TestAgentContainer(t *testing.T) {
	for name, test := range map[string]struct {
		container corev1.Container
		want      bool
	}{
		"by its command":         {corev1.Container{Image: "mirror/own:1", Command: []string{"consul", "agent", "-config-dir=/c"}}, true},
		"in a shell":             {corev1.Container{Image: "hashicorp/consul:1", Command: []string{"/bin/sh", "-ec", "exec /usr/local/bin/docker-entrypoint.sh consul agent \\\n -node=x"}}, true},
		"by its image":           {corev1.Container{Image: "registry.example:5000/hashicorp/consul-enterprise:1.22.7-ent", Args: []string{"agent"}}, true},
		"by a digest":            {corev1.Container{Image: "hashicorp/consul@sha256:abc", Args: []string{"agent"}}, true},
		"the control plane":      {corev1.Container{Image: "hashicorp/consul-k8s-control-plane:1", Args: []string{"agent"}}, false},
		"the dataplane":          {corev1.Container{Image: "hashicorp/consul-dataplane:1", Args: []string{"agent"}}, false},
		"another command of it":  {corev1.Container{Image: "hashicorp/consul:1", Command: []string{"consul", "connect", "envoy"}}, false},
		"another program's flag": {corev1.Container{Image: "a/b:1", Args: []string{"--consul-agent=x"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := agentContainer(&corev1.PodSpec{Containers: []corev1.Container{test.container}}) != nil; got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestSetting(t *testing.T) {
	for text, want := range map[string]string{
		`leave_on_terminate = false`: "false", `{"leave_on_terminate": true, "x": 1}`: "true", `-hcl='leave_on_terminate = true' \`: "true",
		`{"leave_on_terminate":false}`: "false", "leave_on_terminate = true\nleave_on_terminate=false": "false", `skip_leave_on_terminates = true`: "", "": "",
	} {
		if got := setting("leave_on_terminate", text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
