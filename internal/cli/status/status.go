// Package status shows pods with an agentlet as Kubernetes and Consul see them, and where the two differ. Consul's view is the
// agentlets' own status, read through the API server.
package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// Cluster reads agentlets' statuses; apiproxy.Cluster implements it.
type Cluster interface {
	Status(ctx context.Context, pod *corev1.Pod) (*contract.Status, error)
}

// Row is one service of one pod, or a pod whose services are unknown.
type Row struct {
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Node      string `json:"node,omitempty"`
	// Gate is open, closed or off.
	Gate string `json:"gate"`
	// Since is when the gate opened or closed; nil if unknown.
	Since   *time.Time      `json:"since,omitempty"`
	Reason  contract.Reason `json:"reason,omitempty"`
	Service string          `json:"service,omitempty"`
	Address string          `json:"address,omitempty"`
	// Consul is the instance's health in the catalog, or "absent"; empty if unknown.
	Consul string `json:"consul,omitempty"`
	// CatalogReadAt is when the agentlet read the catalog, by its clock; nil if it has not, or does not report it.
	CatalogReadAt *time.Time `json:"catalogReadAt,omitempty"`
	// CatalogAge is the age of that reading, such as "35s", or "unknown".
	CatalogAge string `json:"catalogAge,omitempty"`
	// OpenedSeconds is how long after the pod's start the gate opened; nil while it is closed, or if unknown.
	OpenedSeconds *int64 `json:"openedAfterSeconds,omitempty"`
	// Drift describes where Kubernetes and Consul differ, or why that is unknown.
	Drift string `json:"drift,omitempty"`
	// NextStep is what to do where the gate is closed or the views differ; empty if nothing has to be done, or only waited.
	NextStep string `json:"nextStep,omitempty"`

	age      time.Duration // since Since
	starting bool          // Drift only says that the pod is starting
	stale    bool          // Consul is outdated, or of unknown age
}

// absent is the health of an instance that is not in the catalog.
const absent = "absent"

// freshFor is the age up to which a reading is shown without its age.
const freshFor = 10 * time.Second

// unknown is the age of a reading without a valid time.
const unknown = "unknown"

// parallel is the number of concurrent requests to agentlets: enough for a large namespace, few enough for the API server.
const parallel = 16

// Config configures Read.
type Config struct {
	Kube    kubernetes.Interface
	Cluster Cluster
	// Namespace selects the pods; empty for all namespaces.
	Namespace string
	// Names are the pods'; empty for all.
	Names []string
	// Selector of labels; empty for all pods.
	Selector string
	// Timeout bounds the requests to agentlets. Agentlets that were not asked by then have rows that say so.
	Timeout time.Duration
	// Now returns the time from which ages are computed, usually time.Now.
	Now func() time.Time
}

// Read returns rows for the pods with an agentlet, sorted by namespace and name. Missing says which of the named pods have no
// row, and why.
func Read(ctx context.Context, config Config) (rows []Row, missing []string, err error) {
	pods, missing, err := config.pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	asking, cancel := context.WithTimeout(ctx, config.Timeout)
	defer cancel()
	of := make([][]Row, len(pods))
	var group sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range pods {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			of[i] = config.rows(asking, &pods[i])
		})
	}
	group.Wait()
	return slices.Concat(of...), missing, ctx.Err()
}

// pods returns those with an agentlet.
func (c Config) pods(ctx context.Context) (pods []corev1.Pod, missing []string, err error) {
	if len(c.Names) == 0 {
		list, err := c.Kube.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: c.Selector})
		if err != nil {
			return nil, nil, fmt.Errorf("list pods: %w", err)
		}
		return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool { return registration.Agentlet(&pod) == nil }), nil, nil
	}
	for _, name := range c.Names {
		pod, err := c.Kube.CoreV1().Pods(c.Namespace).Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			missing = append(missing, err.Error())
		case err != nil:
			return nil, nil, fmt.Errorf("get pod %s: %w", name, err)
		case registration.Agentlet(pod) == nil:
			missing = append(missing, fmt.Sprintf("pod %s has no agentlet; kubectl agentlet check says why", name))
		default:
			pods = append(pods, *pod)
		}
	}
	return pods, missing, nil
}

// rows returns the rows of one pod, at least one.
func (c Config) rows(ctx context.Context, pod *corev1.Pod) []Row {
	row := ofPod(pod, c.Now())
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		row.Drift = "the pod has ended: " + string(pod.Status.Phase)
		return []Row{row}
	}
	if waiting := apiproxy.AgentletWaits(pod, c.Now()); waiting != nil && waiting.Stuck {
		row.Drift, row.NextStep = "the agentlet does not run: "+waiting.Why, waiting.Remedy(pod)
		return []Row{row}
	}
	status, err := c.Cluster.Status(ctx, pod)
	if err != nil {
		if row.Drift, row.starting = c.whyUnknown(ctx, pod, err); !row.starting {
			row.NextStep = apiproxy.Remedy(pod, contract.Starting)
		}
		return []Row{row}
	}
	if row.Reason == "" && row.Gate != "off" {
		row.Reason = status.Gate.Reason
	}
	if reason := status.Gate.Reason; reason == contract.OptedOut || reason == contract.CopiedPod {
		row.Reason = reason // nothing is registered, and that is as it should be
		if row.Drift = strings.Join(failing(status), "; "); row.Drift != "" {
			row.NextStep = apiproxy.Remedy(pod, contract.Starting)
		}
		return []Row{row}
	}
	if len(status.Services) == 0 {
		row.Drift = "the agentlet knows no service yet: " + status.Phase
		row.NextStep = nextStep(pod, &row, status, nil)
		return []Row{row}
	}
	found := make([]Row, 0, len(status.Services))
	for i := range status.Services {
		service := &status.Services[i]
		row := row
		row.Service, row.Address, row.Consul = service.Name, service.Address, string(service.Catalog)
		if service.Port != 0 {
			row.Address += fmt.Sprintf(":%d", service.Port)
		}
		if row.Consul == "" && service.Agent != "unknown" && status.CatalogReadAt != nil {
			row.Consul = absent
		}
		if row.CatalogReadAt = status.CatalogReadAt; row.Consul != "" {
			row.CatalogAge, row.stale = age(status.CatalogReadAt, c.Now())
		}
		row.Drift = drift(pod, status, service)
		row.NextStep = nextStep(pod, &row, status, service)
		found = append(found, row)
	}
	return found
}

// nextStep returns what to do about a row. What the application wants, and what ends, needs nothing.
func nextStep(pod *corev1.Pod, row *Row, status *contract.Status, service *contract.ServiceStatus) string {
	switch {
	case pod.DeletionTimestamp != nil || row.Reason == contract.Draining:
		return ""
	case row.Gate == "closed" && row.Reason == contract.ContainersNotReady:
		if waiting := apiproxy.ContainerWaits(pod); waiting != nil {
			return waiting.Remedy(pod)
		}
		return apiproxy.Remedy(pod, row.Reason)
	case row.Gate == "closed":
		return apiproxy.Remedy(pod, row.Reason)
	case status.Errors != "":
		return apiproxy.Remedy(pod, contract.InvalidConfiguration)
	case service != nil && service.Agent == "unknown":
		return apiproxy.Remedy(pod, contract.ConsulUnreachable)
	case row.Consul == absent && row.Drift != "":
		return apiproxy.Remedy(pod, contract.CatalogLost)
	case row.Drift != "" && status.Maintenance == "":
		return apiproxy.Remedy(pod, contract.Starting)
	}
	return ""
}

// whyUnknown returns why an agentlet did not answer, and whether the pod is starting.
func (c Config) whyUnknown(ctx context.Context, pod *corev1.Pod, err error) (why string, starting bool) {
	waiting := apiproxy.AgentletWaits(pod, c.Now())
	switch {
	case waiting != nil:
		return "starting: " + waiting.Why, true
	case errors.Is(err, apiproxy.ErrStarting):
		return "starting: " + err.Error(), true
	case ctx.Err() != nil:
		return fmt.Sprintf("unknown: not asked within %s", c.Timeout), false
	}
	return "unknown: " + err.Error(), false
}

// age returns how long ago the catalog was read, and whether the reading is outdated or of unknown age.
func age(at *time.Time, now time.Time) (text string, stale bool) {
	if at == nil || at.IsZero() || at.After(now.Add(freshFor)) { // ignore a clock that is slightly ahead
		return unknown, true
	}
	ago := max(0, now.Sub(*at)).Round(time.Second)
	return ago.String(), ago > freshFor
}

// ofPod returns a row with Kubernetes' view only.
func ofPod(pod *corev1.Pod, now time.Time) Row {
	row := Row{Namespace: pod.Namespace, Pod: pod.Name, Node: pod.Spec.NodeName, Gate: "closed"}
	if !apiproxy.Gated(pod) {
		row.Gate = "off"
		return row
	}
	gate := apiproxy.Condition(pod, contract.Condition)
	if gate == nil {
		gate = &corev1.PodCondition{} // not written yet: closed since the pod's start
	}
	row.Reason = contract.Reason(gate.Reason)
	if age, known := apiproxy.Since(gate.LastTransitionTime, pod, now); known {
		row.Since, row.age = new(now.Add(-age).UTC().Truncate(time.Second)), age
	}
	if gate.Status == corev1.ConditionTrue {
		row.Gate = "open"
		start, opened := pod.Status.StartTime, gate.LastTransitionTime
		if !start.IsZero() && !opened.IsZero() && !opened.Before(start) && !opened.After(now.Add(apiproxy.ClockSkew)) {
			row.OpenedSeconds = new(int64(opened.Sub(start.Time) / time.Second))
		}
	}
	return row
}

// drift compares the two views. A pod whose health in Consul is fixed by its annotation never drifts by that. Nor does a
// terminating pod, which Agentlet intentionally removes from Consul first.
func drift(pod *corev1.Pod, status *contract.Status, service *contract.ServiceStatus) string {
	if pod.DeletionTimestamp != nil || status.Phase == "draining" || status.Phase == "drained" {
		if service.Catalog != "" {
			return "ending, still in Consul"
		}
		return ""
	}
	var found []string
	ready := apiproxy.Condition(pod, corev1.PodReady)
	isReady := ready != nil && ready.Status == corev1.ConditionTrue
	switch {
	case service.Agent == "unknown":
		found = append(found, "Consul is not heard")
	case service.Catalog == "" && status.CatalogReadAt == nil:
		found = append(found, "the catalog was not read yet")
	case isReady && service.Catalog == "":
		found = append(found, "ready, but not in Consul")
	case isReady && service.Catalog != contract.Passing && service.Readiness != service.Catalog:
		found = append(found, fmt.Sprintf("ready, but %s in Consul", service.Catalog))
	case !isReady && service.Catalog == contract.Passing && service.Readiness != contract.Passing:
		found = append(found, "not ready, but passing in Consul")
	}
	if len(status.Failing) > 0 {
		found = append(found, failing(status)...)
		slices.Sort(found)
	}
	if status.Maintenance != "" {
		found = append(found, "by the application's own word in "+status.Maintenance)
	}
	if status.Errors != "" {
		found = append(found, "errors in changed annotations: "+status.Errors)
	}
	return strings.Join(found, "; ")
}

// failing is what an agentlet tries again, and why.
func failing(status *contract.Status) (found []string) {
	for what, why := range status.Failing {
		found = append(found, what+": "+why)
	}
	slices.Sort(found)
	return found
}
