package check

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/dryrun"
)

// webhook checks the configuration, its CA bundle, and the replicas. Each replica's readiness reports whether its certificate
// matches the bundle.
func (r *run) webhook(ctx context.Context) {
	hook := r.facts.hook
	if !r.facts.hooksRead {
		return
	}
	if hook == nil {
		r.add(Fail, "webhook", "", "no webhook configuration holds "+installation.HookName+": nothing is injected",
			"install the chart: helm upgrade --install agentlet CHART -n agentlet-system --create-namespace")
		return
	}
	subject := "mutatingwebhookconfiguration/" + r.facts.configuration
	if message, err := r.trust(hook.ClientConfig.CABundle); err != nil {
		r.add(Fail, "webhook", subject, err.Error(),
			"the webhook writes it: read its log; where certs.caBundle is set, the chart does")
	} else {
		r.add(OK, "webhook", subject, message, "")
	}
	if hook.ClientConfig.Service == nil {
		r.add(Skip, "webhook", subject, "it is called by URL: its replicas are not looked at", "")
		return
	}
	namespace := hook.ClientConfig.Service.Namespace
	ready := 0
	for i := range r.facts.replicas {
		if r.replica(ctx, &r.facts.replicas[i]) {
			r.certificate(ctx, &r.facts.replicas[i])
			ready++
		}
	}
	if ready == 0 {
		effect := "pods that ask for an agentlet can't be created"
		if hook.FailurePolicy != nil && *hook.FailurePolicy == "Ignore" {
			effect = "pods are created without an agentlet"
		}
		r.add(Fail, "webhook", "service/"+namespace+"/"+hook.ClientConfig.Service.Name, "no replica is ready: "+effect,
			fmt.Sprintf("kubectl -n %s get deployments,pods; scale the deployment up, or read its events and log", namespace))
	}
}

// trust returns until when the CA bundle is valid.
func (r *run) trust(bundle []byte) (string, error) {
	if len(bundle) == 0 {
		return "", errors.New("its caBundle is empty: the API server trusts no certificate")
	}
	var last *x509.Certificate
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		authority, err := x509.ParseCertificate(block.Bytes)
		if err == nil && (last == nil || authority.NotAfter.After(last.NotAfter)) {
			last = authority
		}
	}
	switch {
	case last == nil:
		return "", errors.New("its caBundle holds no certificate")
	case r.Now.After(last.NotAfter):
		return "", fmt.Errorf("the authority in its caBundle has expired on %s", last.NotAfter.Format("2006-01-02 15:04"))
	}
	return "trusts an authority until " + last.NotAfter.Format("2006-01-02 15:04"), nil
}

// replica reports what prevents one replica from being ready, and returns whether it is ready.
func (r *run) replica(ctx context.Context, pod *corev1.Pod) bool {
	if pod.DeletionTimestamp != nil {
		return false
	}
	subject := "pod/" + pod.Namespace + "/" + pod.Name
	body, err := r.Cluster.Pod(ctx, pod.Namespace, pod.Name, installation.HealthPort(pod), "readyz")
	ready := apiproxy.Condition(pod, corev1.PodReady)
	isReady := ready != nil && ready.Status == corev1.ConditionTrue
	missing := ""
	if answer := (*apiproxy.AnswerError)(nil); errors.As(err, &answer) {
		missing = parts(answer.Body, "[-] ")
	}
	switch {
	case err == nil:
		r.add(OK, "webhook", subject, "ready: "+parts(string(body), "[+] "), "")
		return true
	case errors.Is(err, apiproxy.ErrForbidden) && isReady:
		r.add(OK, "webhook", subject, "ready, as Kubernetes says; its own word needs the right to get pods/proxy", "")
		return true
	case r.starts(pod):
		r.add(Skip, "webhook", subject, "it is starting", "")
	case missing != "":
		r.add(Fail, "webhook", subject, "not ready: "+missing,
			fmt.Sprintf("kubectl -n %s logs %s", pod.Namespace, pod.Name))
	default:
		why, remedy := err.Error(), fmt.Sprintf("kubectl -n %s describe pod %s", pod.Namespace, pod.Name)
		if waiting := apiproxy.ContainerWaits(pod); waiting != nil {
			why, remedy = waiting.Why, waiting.Remedy(pod)
		}
		r.add(Fail, "webhook", subject, "not ready: "+why, remedy)
	}
	return isReady
}

// starts reports whether a replica is just starting, and nothing is wrong but that.
func (r *run) starts(pod *corev1.Pod) bool {
	waiting := apiproxy.ContainerWaits(pod)
	return r.isNew(pod) && (waiting == nil || !waiting.Stuck)
}

// parts returns the parts of a readiness answer with this mark, in one line. The answer has a line for each part, of the form
// "[+] NAME: ok" or "[-] NAME: PROBLEM".
func parts(answer, mark string) string {
	var found []string
	for line := range strings.Lines(answer) {
		if text, ok := strings.CutPrefix(line, mark); ok {
			found = append(found, strings.TrimSuffix(strings.TrimSpace(text), ": ok"))
		}
	}
	return registration.Truncate(strings.Join(found, ", "), maxParts)
}

// maxParts limits what is shown of a readiness answer, in bytes.
const maxParts = 300

// admission makes the API server itself call the webhook.
func (r *run) admission(ctx context.Context) {
	if r.facts.hook == nil {
		return
	}
	namespace := r.Namespace
	if !r.usable(namespace) {
		namespace = ""
		for _, name := range slices.Sorted(maps.Keys(r.facts.namespaces)) {
			if r.usable(name) {
				namespace = name
				break
			}
		}
	}
	if namespace == "" {
		r.add(Skip, "webhook", "", "no namespace is opted in, so the API server can't be made to call the webhook",
			fmt.Sprintf("kubectl label namespace NAME %s=%s", contract.InjectLabel, contract.InjectEnabled))
		return
	}
	err := dryrun.Once(ctx, r.Kube, namespace, nil)
	subject := "namespace/" + namespace
	ours, denied := byWebhook(err)
	switch {
	case err == nil:
		r.add(OK, "webhook", subject, "the API server reaches and trusts the webhook: a pod created here is injected (dry run)", "")
	case errors.Is(err, dryrun.ErrNotInjected):
		r.add(
			Fail,
			"webhook",
			subject,
			"a pod created here is not injected (dry run), though the namespace is opted in",
			"look for another webhook or policy that takes the agentlet out, and at failurePolicy: with Ignore an unreachable webhook is passed over",
		)
	case denied:
		r.add(OK, "webhook", subject,
			"the API server reaches and trusts the webhook: it judged a pod here, and refused it (dry run): "+err.Error(), "")
	case ours:
		r.add(
			Fail,
			"webhook",
			subject,
			"the API server can't use the webhook: "+err.Error(),
			"see that the API server reaches the webhook's pods (port 9443, or webhook.port) and that the findings about the webhook are well",
		)
	case apierrors.IsForbidden(err):
		r.add(Skip, "webhook", subject, "a dry run of a pod is not allowed here: "+err.Error(), "")
	default:
		r.add(Warn, "webhook", subject, "a dry run of a pod failed: "+err.Error(), "see what refuses pods in this namespace")
	}
}

// byWebhook reports whether an API server's error comes from its call of our webhook, and whether the webhook denied the request.
// The API server names the webhook only in the message: its Status has no field for it. No other code parses that message.
func byWebhook(err error) (ours, denied bool) {
	if err == nil {
		return false, false
	}
	hook := fmt.Sprintf("webhook %q", installation.HookName)
	return strings.Contains(err.Error(), hook), strings.Contains(err.Error(), "admission "+hook+" denied the request")
}

// usable reports whether a pod can be tried in the namespace.
func (r *run) usable(namespace string) bool {
	return r.optedIn(namespace) && r.facts.namespaces[namespace].DeletionTimestamp == nil
}
