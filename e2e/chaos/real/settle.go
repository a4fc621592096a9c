package real

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// settleTimeout bounds the wait for a quiet moment. Two things take longest: an ended pod's instance that its agent has kept,
// which takes deregister-after and up to half a minute more; and a container that the kubelet restarts only after a minute or
// more.
const settleTimeout = 4 * time.Minute

// settleNews is how often the log says what a quiet moment waits for.
const settleNews = 20 * time.Second

// Settle waits until all of the following holds, and returns a summary. Nodes and processes are healthy. The Deployment has its
// pods, all Ready, and no other pods are left. The catalog and the nodes' agents have exactly these instances, all passing. Each
// gate is open, and its status agrees. Each heartbeat continues. Nothing is left over. An out-of-memory kill of a container fails
// at once.
func (w *World) Settle(ctx context.Context) (seen string, err error) {
	told := time.Now()
	err = within(ctx, settleTimeout, "no quiet moment came", func(ctx context.Context) error {
		if killed := w.watch.outOfMemory(); len(killed) > 0 {
			return nil // reported below
		}
		seen, err = w.quiet(ctx)
		if err != nil && time.Since(told) > settleNews {
			told = time.Now()
			w.Log("not quiet yet: " + err.Error())
		}
		return err
	})
	if killed := w.watch.outOfMemory(); len(killed) > 0 {
		return seen, fmt.Errorf("killed for want of memory: %s", strings.Join(killed, "; "))
	}
	return seen, err
}

func (w *World) quiet(ctx context.Context) (seen string, err error) {
	if err := w.Cluster.Healthy(ctx); err != nil {
		return "", err
	}
	pods, err := w.settledPods(ctx)
	if err != nil {
		return "", err
	}
	if err := errors.Join(w.catalogIsRight(ctx, pods), w.agentsAreRight(ctx, pods), gatesAreOpen(pods), w.grantsAreRight(ctx),
		w.tokensAreRight(ctx, pods)); err != nil {
		return "", err
	}
	if err := w.agentletsAreWell(ctx, pods); err != nil {
		return "", err
	}
	if len(w.webhooks()) != 2 {
		return "", fmt.Errorf("%d replicas of the webhook are Ready, want 2", len(w.webhooks()))
	}
	if err := w.removeEndedWebhooks(ctx); err != nil {
		return "", err
	}
	now, err := w.count(ctx)
	if err != nil {
		return "", err
	}
	if w.baseline != nil {
		if err := now.leaks(w.baseline); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d pods Ready and passing; %s", len(pods), now), nil
}

// removeEndedWebhooks deletes replicas that a fault has ended for good, for example by an eviction, as an operator would. Later
// scenarios count the replicas. The error names the deleted ones.
func (w *World) removeEndedWebhooks(ctx context.Context) error {
	var errs []error
	for _, pod := range w.watch.pods(scenario.SystemNamespace) {
		if ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded; !ended || !isWebhook(pod) {
			continue
		}
		err := ignoreGone(w.Kube.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{}))
		errs = append(errs, fmt.Errorf("a replica of the webhook has ended, and is still there: %s", pod.Name), err)
	}
	return errors.Join(errs...)
}

// settledPods returns the workload's pods if all are Ready and of the newest revision. It deletes failed pods, as an operator
// would.
func (w *World) settledPods(ctx context.Context) ([]corev1.Pod, error) {
	deployment, err := w.Kube.AppsV1().Deployments(w.Namespace).Get(ctx, workload, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, err := w.Kube.CoreV1().Pods(w.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var rest []string
	pods := slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
		ended := pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		if ended && pod.DeletionTimestamp == nil {
			err = errors.Join(err, ignoreGone(w.Kube.CoreV1().Pods(w.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})))
		}
		if ended || pod.DeletionTimestamp != nil || pod.Labels["app"] == overdue {
			rest = append(rest, pod.Name)
		}
		return ended || pod.DeletionTimestamp != nil || pod.Labels["app"] == overdue
	})
	want, status := *deployment.Spec.Replicas, deployment.Status
	switch {
	case err != nil:
		return nil, err
	case len(rest) > 0:
		return nil, fmt.Errorf("pods are still there: %s", strings.Join(rest, ", "))
	case status.ObservedGeneration < deployment.Generation || status.UpdatedReplicas != want ||
		status.Replicas != want || status.ReadyReplicas != want:
		return nil, fmt.Errorf(
			"of %d replicas %d are updated, %d Ready, %d there at all; not Ready: %s",
			want,
			status.UpdatedReplicas,
			status.ReadyReplicas,
			status.Replicas,
			notReady(pods),
		)
	case len(pods) != int(want):
		return nil, fmt.Errorf("%d pods, want %d", len(pods), want)
	}
	return pods, nil
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func notReady(pods []corev1.Pod) string {
	var texts []string
	for i := range pods {
		if !scenario.IsReady(&pods[i]) {
			gate := scenario.Condition(&pods[i], contract.Condition)
			texts = append(texts,
				fmt.Sprintf("%s on %s, gate %s %s: %s", pods[i].Name, pods[i].Spec.NodeName, gate.Status, gate.Reason, gate.Message))
		}
	}
	return strings.Join(texts, "; ")
}

// catalogIsRight checks that the catalog has exactly one passing entry for each pod, with its address and tags.
func (w *World) catalogIsRight(ctx context.Context, pods []corev1.Pod) error {
	entries, _, err := w.consul.clients[0].Health().Service(w.Namespace, "", false, query(ctx))
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range entries {
		i := slices.IndexFunc(pods, func(pod corev1.Pod) bool { return string(pod.UID) == entry.Service.Meta[contract.MetaPodUID] })
		switch status := entry.Checks.AggregatedStatus(); {
		case i < 0:
			errs = append(errs, fmt.Errorf("the catalog has %s (%s) of a pod that has gone", entry.Service.ID, status))
		case status != api.HealthPassing:
			errs = append(errs, fmt.Errorf("the catalog has %s as %s: %s", entry.Service.ID, status, failing(entry.Checks)))
		case entry.Service.Address != pods[i].Status.PodIP || entry.Service.Port != 8080:
			errs = append(
				errs,
				fmt.Errorf("the catalog has %s at %s:%d, want %s:8080", entry.Service.ID, entry.Service.Address, entry.Service.Port,
					pods[i].Status.PodIP),
			)
		case strings.Join(entry.Service.Tags, ",") != pods[i].Annotations[contract.ServiceTags]:
			errs = append(
				errs,
				fmt.Errorf("the catalog has %s with the tags %v, want %q", entry.Service.ID, entry.Service.Tags,
					pods[i].Annotations[contract.ServiceTags]),
			)
		}
	}
	if len(entries) != len(pods) {
		errs = append(errs, fmt.Errorf("the catalog has %d instances of %d Ready pods", len(entries), len(pods)))
	}
	return errors.Join(errs...)
}

func failing(checks api.HealthChecks) string {
	var texts []string
	for _, check := range checks {
		if check.Status != api.HealthPassing {
			texts = append(texts, fmt.Sprintf("%s is %s: %s", check.CheckID, check.Status, strings.TrimSpace(check.Output)))
		}
	}
	return strings.Join(texts, "; ")
}

// agentsAreRight checks that each node's Consul agent has exactly the instances of the node's pods.
func (w *World) agentsAreRight(ctx context.Context, pods []corev1.Pod) error {
	var errs []error
	for i, node := range w.Cluster.Nodes {
		services, err := w.consul.nodes[i].Agent().ServicesWithFilterOpts("Service == `"+w.Namespace+"`", query(ctx))
		if err != nil {
			return err
		}
		var want, got []string
		for _, pod := range pods {
			if pod.Spec.NodeName == node.Name {
				want = append(want, string(pod.UID))
			}
		}
		for _, service := range services {
			got = append(got, service.Meta[contract.MetaPodUID])
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			errs = append(errs, fmt.Errorf("the agent of %s knows instances of %v, want %v", node.Name, got, want))
		}
	}
	return errors.Join(errs...)
}

func gatesAreOpen(pods []corev1.Pod) error {
	var errs []error
	for i := range pods {
		gate := scenario.Condition(&pods[i], contract.Condition)
		if gate.Status != corev1.ConditionTrue || gate.Reason != string(contract.Registered) {
			errs = append(errs, fmt.Errorf("the gate of %s is %s, %s: %s", pods[i].Name, gate.Status, gate.Reason, gate.Message))
		}
	}
	return errors.Join(errs...)
}

// grantsAreRight checks that the webhook has one binding in the namespace, for the one service account.
func (w *World) grantsAreRight(ctx context.Context) error {
	bindings, err := w.Kube.RbacV1().RoleBindings(w.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	if len(bindings.Items) != 1 || len(bindings.Items[0].Subjects) != 1 || bindings.Items[0].Subjects[0].Name != w.account() {
		return fmt.Errorf("role bindings: %+v, want one of the account %s", bindings.Items, w.account())
	}
	return nil
}

func (w *World) account() string {
	if name := w.Template.Spec.ServiceAccountName; name != "" {
		return name
	}
	return "default"
}

// tokensAreRight checks that only the pods have login tokens: one each, or two during a renewal.
func (w *World) tokensAreRight(ctx context.Context, pods []corev1.Pod) error {
	if w.Secured == nil {
		return nil
	}
	tokens, _, err := w.Secured.Client.ACL().TokenList(query(ctx))
	if err != nil {
		return err
	}
	left := map[string]int{} // remaining permitted tokens by pod
	for _, pod := range pods {
		left[pod.Name] = 2
	}
	for _, token := range tokens {
		if token.AuthMethod == "" {
			continue
		}
		_, pod, _ := strings.Cut(token.Description, w.Namespace+"/")
		pod, _, _ = strings.Cut(pod, `"`)
		if left[pod]--; left[pod] < 0 {
			return fmt.Errorf("a token too many: %s, of %s", token.Description, token.CreateTime.Format(time.TimeOnly))
		}
	}
	return nil
}

// beatsWithin bounds the wait for an agentlet's next heartbeat; heartbeats are sent each third of the TTL.
const beatsWithin = chaos.HeartbeatTTL

// agentletsAreWell checks that each agentlet's status agrees with the pod's gate, and that it reaches Consul and sends its next
// heartbeat.
func (w *World) agentletsAreWell(ctx context.Context, pods []corev1.Pod) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatsWithin+callTimeout) // longer than one call
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for _, pod := range pods {
		group.Go(func() error {
			if err := agentletIsWell(ctx, pod.Status.PodIP); err != nil {
				return fmt.Errorf("agentlet of %s: %w", pod.Name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func agentletIsWell(ctx context.Context, ip string) error {
	text, err := get(ctx, ip, contract.StatusPath)
	if err != nil {
		return err
	}
	var status contract.Status
	if err := json.Unmarshal(text, &status); err != nil {
		return fmt.Errorf("decode status: %w", err)
	}
	if !status.Gate.Open || status.Phase != "running" || len(status.Failing) > 0 {
		return fmt.Errorf("it says that its gate is open: %v, its phase %s, and failing: %v", status.Gate.Open, status.Phase,
			status.Failing)
	}
	for _, service := range status.Services {
		if service.Failing != "" || service.Readiness != contract.Passing {
			return fmt.Errorf("it says of %s: readiness %s, failing %q", service.ID, service.Readiness, service.Failing)
		}
	}
	first, err := heartbeats(ctx, ip)
	if err != nil {
		return err
	}
	return within(ctx, beatsWithin, "no heartbeat", func(ctx context.Context) error {
		now, err := heartbeats(ctx, ip)
		if err == nil && now <= first {
			err = fmt.Errorf("%.0f heartbeats, as before", now)
		}
		return err
	})
}

// heartbeats returns how many heartbeats of an agentlet its agent has accepted.
func heartbeats(ctx context.Context, ip string) (float64, error) {
	text, err := get(ctx, ip, contract.MetricsPath)
	if err != nil {
		return 0, err
	}
	return scenario.Sum(text, "agentlet_requests_total", func(labels map[string]string) bool {
		return labels["operation"] == "update_heartbeat" && labels["outcome"] == "ok"
	})
}

func get(ctx context.Context, ip, path string) ([]byte, error) {
	return scenario.Get(ctx, "http://"+net.JoinHostPort(ip, "19500")+path)
}
