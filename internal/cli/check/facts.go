package check

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/installation"
)

// workloadsName is the name of the webhook that validates workloads, in its configuration.
const workloadsName = "workloads.agentlet.dev"

// oldest is the oldest Kubernetes version with everything that the chart needs: native sidecars, matchConditions and
// ValidatingAdmissionPolicy.
const oldest = "1.30.0"

// facts are read once, for all checks. What could not be read is empty, and has a finding.
type facts struct {
	version             string // of Kubernetes
	podsRead, hooksRead bool

	configurations []admissionregistrationv1.MutatingWebhookConfiguration // all

	configuration string
	hook          *admissionregistrationv1.MutatingWebhook // nil: none
	replicas      []corev1.Pod                             // of the webhook
	selector      labels.Selector                          // of the namespaces that are opted in
	namespaces    map[string]*corev1.Namespace
	pods          []corev1.Pod // that are expected to run
	nodes         []corev1.Node
	ungranted     map[account]string // rights that service accounts of injected pods lack
}

func (r *run) gather(ctx context.Context) {
	r.facts.namespaces = map[string]*corev1.Namespace{}
	if list, err := r.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{}); r.read("namespaces", err) {
		for i := range list.Items {
			r.facts.namespaces[list.Items[i].Name] = &list.Items[i]
		}
	}
	if list, err := r.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); r.read("nodes", err) {
		r.facts.nodes = list.Items
	}
	if list, err := r.Kube.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{}); r.read("pods", err) {
		r.facts.podsRead = true
		for _, pod := range list.Items {
			if pod.DeletionTimestamp == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
				r.facts.pods = append(r.facts.pods, pod)
			}
		}
	}
	r.gatherHook(ctx)
}

// gatherHook reads the webhook and its pods.
func (r *run) gatherHook(ctx context.Context) {
	r.facts.selector = labels.SelectorFromSet(labels.Set{contract.InjectLabel: contract.InjectEnabled})
	list, err := r.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if !r.read("webhook configurations", err) {
		return
	}
	r.facts.hooksRead, r.facts.configurations = true, list.Items
	r.facts.configuration, r.facts.hook = installation.Hook(list.Items)
	hook := r.facts.hook
	if hook == nil {
		return
	}
	if selector, err := metav1.LabelSelectorAsSelector(hook.NamespaceSelector); err == nil {
		r.facts.selector = selector
	}
	replicas, err := installation.Replicas(ctx, r.Kube, hook)
	if r.read("the webhook's pods", err) {
		r.facts.replicas = replicas
	}
}

// read reports whether a read succeeded, and adds a finding if not.
func (r *run) read(what string, err error) bool {
	if err != nil {
		r.add(Fail, "kubernetes", "", fmt.Sprintf("can't read %s: %v", what, err),
			"use an account that may list "+what)
	}
	return err == nil
}

// kubernetes checks the version, and reports whether the API server answers; without it no other check is possible.
func (r *run) kubernetes(ctx context.Context) bool {
	info, err := discovery.ToServerVersionInterfaceWithContext(r.Kube.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		r.add(Fail, "kubernetes", "", fmt.Sprintf("the API server doesn't answer: %v", err),
			"use a kubeconfig, context or account that reaches the cluster")
		return false
	}
	r.facts.version = info.GitVersion
	got, err := version.ParseGeneric(info.GitVersion)
	if err == nil && got.LessThan(version.MustParseGeneric(oldest)) {
		r.add(Fail, "kubernetes", "", fmt.Sprintf("version %s is older than %s", info.GitVersion, oldest), "upgrade Kubernetes")
		return true
	}
	r.add(OK, "kubernetes", "", "version "+info.GitVersion, "")
	return true
}

// optedIn reports whether the webhook sees pods of the namespace.
func (r *run) optedIn(namespace string) bool {
	n := r.facts.namespaces[namespace]
	return n != nil && r.facts.selector.Matches(labels.Set(n.Labels))
}

// flag returns the value of a flag of the webhook, or fallback.
func (r *run) flag(name, fallback string) string {
	for i := range r.facts.replicas {
		for _, container := range r.facts.replicas[i].Spec.Containers {
			for _, arg := range container.Args {
				if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
					return value
				}
			}
		}
	}
	return fallback
}

// defaults returns the installation's, by the flags of one replica of the webhook; none where a newer release has others than are
// known here.
func (r *run) defaults() registration.Defaults {
	if len(r.facts.replicas) == 0 {
		return nil
	}
	found := registration.Defaults{}
	for _, container := range r.facts.replicas[0].Spec.Containers {
		for _, arg := range container.Args {
			if pair, ok := strings.CutPrefix(arg, "--default="); ok {
				key, value, _ := strings.Cut(pair, "=")
				found[key] = value
			}
		}
	}
	if len(registration.ValidateDefaults(nil, found)) > 0 {
		return nil
	}
	return found
}

// consulPort returns the port of the nodes' Consul agents: the installation's, or else the given one.
func (r *run) consulPort() int {
	given := cmp.Or(r.ConsulPort, 8500)
	port, err := strconv.Atoi(r.flag("consul-port", strconv.Itoa(given)))
	if err != nil {
		return given
	}
	return port
}

// consulScheme returns their scheme.
func (r *run) consulScheme() string { return r.flag("consul-scheme", cmp.Or(r.ConsulScheme, "http")) }
