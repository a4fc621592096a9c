package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Pre configures a look at a cluster before anything is installed. Its Consul agents may be in any namespace, so the Config names
// none.
type Pre struct {
	Config
	// Into is the namespace to install into. Probes run in it, too.
	Into string
	// OpenShift reports whether the API server assigns users to containers.
	OpenShift func(ctx context.Context) (bool, error)
	// Probe is nil if nothing may be created.
	Probe *Probe
}

// preRun is the state of a run before an installation.
type preRun struct {
	run
	pre Pre
	// into is the namespace to install into; nil if it does not exist, or can't be read.
	into   *corev1.Namespace
	agents []*consulAgents
	probed map[string]probeResult // by node; of nodes that were probed
}

// RunPre looks at a cluster before anything is installed. Without a probe it creates nothing but access reviews, which the API
// server doesn't store.
func RunPre(ctx context.Context, pre Pre) []Finding {
	r := &preRun{run: run{Config: pre.Config}, pre: pre}
	if !r.kubernetes(ctx) {
		return r.findings
	}
	r.look(ctx, r.gather, r.installed, r.policyAPI, r.rights, r.podSecurity, r.nodes, r.manifests, r.probe, r.consul, r.platform,
		r.mesh)
	return r.findings
}

// newestTried is the newest Kubernetes version that was tried.
const newestTried = "1.37"

func (r *preRun) kubernetes(ctx context.Context) bool {
	if !r.run.kubernetes(ctx) {
		return false
	}
	got, err := version.ParseGeneric(r.facts.version)
	if newest := version.MustParseGeneric(newestTried); err == nil && got.WithPatch(0).GreaterThan(newest) {
		r.add(Warn, "kubernetes", "",
			fmt.Sprintf("version %s is newer than %s, the newest that was tried", r.facts.version, newestTried),
			"see docs/supported.md of a newer release of Agentlet, and try it on a test cluster first")
	}
	return true
}

// gather reads what several checks need.
func (r *preRun) gather(ctx context.Context) {
	r.run.gather(ctx)
	r.facts.replicas = nil // the settings to check are those of the installation to come
	r.into = r.facts.namespaces[r.pre.Into]
}

func (r *preRun) installed(context.Context) {
	if !r.facts.hooksRead {
		return
	}
	if r.facts.hook == nil {
		r.add(OK, "webhook", "", "Agentlet is not installed yet", "")
		return
	}
	r.add(Warn, "webhook", "mutatingwebhookconfiguration/"+r.facts.configuration, "Agentlet is installed already",
		"kubectl agentlet check looks at the installation")
}

// policyAPI checks that the API server has admission policies, which bound what agentlets may do.
func (r *preRun) policyAPI(ctx context.Context) {
	_, err := r.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{Limit: 1})
	switch {
	case err == nil:
		r.add(OK, "policy", "", "the API server has ValidatingAdmissionPolicy, admissionregistration.k8s.io/v1", "")
	case apierrors.IsNotFound(err):
		r.add(Fail, "policy", "",
			"the API server has no ValidatingAdmissionPolicy, admissionregistration.k8s.io/v1: the chart can't be installed",
			"take it out of the API server's --runtime-config and --feature-gates; it is on by default since Kubernetes 1.30")
	default:
		r.add(Skip, "policy", "", "can't see whether the API server has ValidatingAdmissionPolicy: "+err.Error(), "")
	}
}

// enforceLabel is the label of a namespace with the Pod Security Standard that it enforces.
const enforceLabel = "pod-security.kubernetes.io/enforce"

// podSecurity looks at the Pod Security Standards of namespaces.
func (r *preRun) podSecurity(context.Context) {
	if len(r.facts.namespaces) == 0 {
		return // said by gather
	}
	const fits = "the webhook's pods, and the agentlet, meet restricted"
	switch {
	case r.into == nil:
		r.add(OK, "namespaces", "namespace/"+r.pre.Into, "it does not exist yet: helm install --create-namespace makes it", "")
	case r.into.DeletionTimestamp != nil:
		r.add(Fail, "namespaces", "namespace/"+r.pre.Into, "it is being deleted: nothing can be created in it",
			"wait until it is gone: kubectl wait --for=delete namespace/"+r.pre.Into)
	default:
		says := "it names no Pod Security Standard, and the cluster's default holds"
		if level := r.into.Labels[enforceLabel]; level != "" {
			says = "it enforces the Pod Security Standard " + level
		}
		r.add(OK, "namespaces", "namespace/"+r.pre.Into, says+": "+fits, "")
	}
	restricted := 0
	for _, namespace := range r.facts.namespaces {
		if namespace.Labels[enforceLabel] == "restricted" {
			restricted++
		}
	}
	if restricted > 0 {
		r.add(OK, "namespaces", "", fmt.Sprintf("%s restricted, which the agentlet meets",
			enforcing(restricted)), "")
	}
}

func enforcing(namespaces int) string {
	if namespaces == 1 {
		return "1 namespace enforces"
	}
	return fmt.Sprintf("%d namespaces enforce", namespaces)
}

// unusable returns why no Consul agent can run on a node, or nothing.
func unusable(node *corev1.Node) string {
	switch {
	case node.Labels[corev1.LabelOSStable] == "windows":
		return "it runs Windows, for which there is no agentlet"
	case node.Labels["type"] == "virtual-kubelet" || hasTaint(node, "virtual-kubelet.io/provider"):
		return "it is a virtual node, which runs no DaemonSet, and so no Consul agent"
	case node.Labels["eks.amazonaws.com/compute-type"] == "fargate":
		return "it is of Fargate, which runs no DaemonSet, and so no Consul agent"
	}
	return ""
}

func hasTaint(node *corev1.Node, key string) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

// autopilotPrefix begins the names of the nodes of GKE Autopilot clusters, and of no others.
const autopilotPrefix = "gk3-"

// nodes reports nodes on which no agent can run, and takes them out of all later checks. Those of Autopilot stay: it allows some
// DaemonSets.
func (r *preRun) nodes(context.Context) {
	kept, autopilot := make([]corev1.Node, 0, len(r.facts.nodes)), 0
	for i := range r.facts.nodes {
		node := &r.facts.nodes[i]
		why := unusable(node)
		if why == "" {
			kept = append(kept, *node)
			if strings.HasPrefix(node.Name, autopilotPrefix) {
				autopilot++
			}
			continue
		}
		r.add(Warn, "nodes", "node/"+node.Name, why+": pods there can't be registered",
			"keep annotated pods on other nodes, by nodeSelector or affinity in their templates")
	}
	r.facts.nodes = kept
	if autopilot > 0 {
		r.add(Warn, "nodes", "", printer.Count(autopilot, "node")+" of GKE Autopilot, which refuses hostPort, hostNetwork and "+
			"writable hostPath of most DaemonSets: no Consul agent can answer at its IP",
			"use a Standard cluster, or node pools in Standard mode, for annotated pods")
	}
	if others := len(kept) - autopilot; others > 0 {
		r.add(OK, "nodes", "", printer.Count(others, "node")+" can run a Consul agent", "")
	}
}

// platform says whether this is OpenShift.
func (r *preRun) platform(ctx context.Context) {
	is, err := r.pre.OpenShift(ctx)
	switch {
	case err != nil:
		r.add(Skip, "platform", "", "can't see whether this is OpenShift: "+err.Error(), "")
	case is:
		r.add(OK, "platform", "", "this is OpenShift: nothing has to be set, since agentlet.runAsUser is auto", "")
		r.openShiftAgents()
	default:
		r.add(OK, "platform", "", "the API server assigns no users to containers (no OpenShift)", "")
	}
}

// openShiftAgents reports missing Consul agents on OpenShift, which refuses them without a SecurityContextConstraints.
func (r *preRun) openShiftAgents() {
	for _, agents := range r.agents {
		if agents.missing() > 0 {
			r.add(Warn, "platform", agents.subject(), "OpenShift may refuse its pods for the node's network, ports or disk",
				"give its service account a SecurityContextConstraints that allows them: docs/operating.md#openshift; "+
					"with HashiCorp's chart set global.openshift.enabled=true")
		}
	}
}

// chartName is the name of the chart's objects where the release is named as in docs.
const chartName = "agentlet"

// mesh reports another mesh, whose proxy stands between the agentlet and its ports.
func (r *preRun) mesh(ctx context.Context) {
	found := map[string]bool{}
	groups, err := discovery.ToServerGroupsInterfaceWithContext(r.Kube.Discovery()).ServerGroupsWithContext(ctx)
	if err == nil {
		for _, group := range groups.Groups {
			switch {
			case group.Name == "istio.io" || strings.HasSuffix(group.Name, ".istio.io"):
				found["Istio"] = true
			case group.Name == "linkerd.io" || strings.HasSuffix(group.Name, ".linkerd.io"):
				found["Linkerd"] = true
			}
		}
	}
	for _, namespace := range r.facts.namespaces {
		labels := namespace.Labels
		if labels["istio-injection"] == "enabled" || labels["istio.io/rev"] != "" || labels["istio.io/dataplane-mode"] != "" {
			found["Istio"] = true
		}
		if value := namespace.Annotations["linkerd.io/inject"]; value == "enabled" || value == "ingress" {
			found["Linkerd"] = true
		}
	}
	for i := range r.facts.configurations {
		r.meshHook(&r.facts.configurations[i], found)
	}
	for _, mesh := range slices.Sorted(maps.Keys(found)) {
		r.add(OK, "mesh", "",
			mesh+" is here: the webhook takes agentlet's ports out of its proxies; docs/mesh.md says what else to set", "")
	}
	if len(found) == 0 {
		r.add(OK, "mesh", "", "no Istio and no Linkerd", "")
	}
}

// meshHook looks for a mesh's injector in a webhook configuration.
func (r *preRun) meshHook(configuration *admissionregistrationv1.MutatingWebhookConfiguration, found map[string]bool) {
	for k := range proxyInjectors {
		mesh := &proxyInjectors[k]
		if !slices.ContainsFunc(configuration.Webhooks, func(hook admissionregistrationv1.MutatingWebhook) bool {
			return strings.HasSuffix(hook.Name, mesh.hook)
		}) {
			continue
		}
		found[mesh.mesh] = true
		if configuration.Name < chartName && mesh.runsOnce(configuration) {
			r.add(Warn, "mesh", "mutatingwebhookconfiguration/"+configuration.Name,
				fmt.Sprintf("%s's injector would run before agentlet's, since %q comes before %q: its proxies may refuse drain hooks",
					mesh.mesh, configuration.Name, chartName),
				"install agentlet with a fullnameOverride that comes first: docs/mesh.md#the-order-of-the-webhooks")
		}
	}
}
