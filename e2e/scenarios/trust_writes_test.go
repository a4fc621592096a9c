package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/kube"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestTrustWritesAreBounded tries to fill etcd with a pod's token, and to write misleading objects.
func TestTrustWritesAreBounded(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var held kubernetes.Interface
	var token string
	s.Given("an unready pod, and its token", func() {
		serviceAccount(s, "web")
		createUnready(s, "own", "node1")
		awaitAccounts(s, "web")
		token = tokenInside(s, "own")
		held = withToken(s, token)
	})
	s.Then("all writes of the agentlet itself are accepted", func() { ownWritesPass(s, token) })
	pod := s.Pod("own")
	s.Then("every other condition is rejected", func() {
		for name, a := range conditionAttacks(held) {
			if err := a.try(s); !refusedBy(gatePolicy, err) {
				s.Errorf("%s: %.300v, want the policy's refusal", name, err)
			}
		}
	})
	s.Then("server-side apply can't add a field manager", func() {
		body := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"own"},"status":{"conditions":[{"type":"` + contract.Condition + `","status":"True"}]}}`
		_, err := held.CoreV1().Pods(s.Namespace).Patch(s.Ctx, "own", types.ApplyPatchType, []byte(body),
			metav1.PatchOptions{FieldManager: "another", Force: new(true)}, "status")
		if !refusedBy(gatePolicy, err) {
			s.Errorf("%v, want the policy's refusal", err)
		}
	})
	s.Then("the API server ignores managedFields in a status update", func() {
		fields := fmt.Sprintf(`{"f:%s":{}}`, strings.Repeat("x", 1<<20))
		body := fmt.Sprintf(`{"metadata":{"managedFields":[{"manager":"any","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":%s}]},
			"status":{"conditions":[{"type":%q,"status":"Unknown"}]}}`, fields, contract.Condition)
		s.Must(attack{held, "own", "status", body}.try(s))
	})
	s.Then("every other event is rejected", func() {
		for name, event := range eventAttacks(s, pod) {
			_, err := held.CoreV1().Events(s.Namespace).Create(s.Ctx, event, metav1.CreateOptions{})
			if !refusedBy(eventsPolicy, err) {
				s.Errorf("%s: %.300v, want the policy's refusal", name, err)
			}
		}
	})
	s.Then("the pod has not grown, and there are only the agentlet's events", func() {
		size := func(pod *corev1.Pod) int {
			text, err := json.Marshal(pod)
			s.Must(err)
			return len(text)
		}
		if was, now := size(pod), size(s.Pod("own")); now > was+contract.MaxConditionMessage+1024 {
			s.Errorf("the pod has grown from %d to %d bytes", was, now)
		}
		events, err := s.Kube.CoreV1().Events(s.Namespace).List(s.Ctx, metav1.ListOptions{})
		s.Must(err)
		for _, e := range events.Items {
			if strings.HasPrefix(e.Name, attacked) {
				s.Errorf("%s was written by %s", e.Name, e.Source.Component)
			}
		}
	})
}

// ownWritesPass makes all writes of an agentlet, through its own adapter, at their maximum length.
func ownWritesPass(s *scenario.S, token string) {
	s.Helper()
	config, err := s.Cluster.RESTConfig()
	s.Must(err)
	config = rest.AnonymousClientConfig(config)
	config.BearerToken = token
	adapter, err := kube.NewPod(config, s.Namespace, "own", string(s.Pod("own").UID))
	s.Must(err)
	write := func(status corev1.ConditionStatus, reason contract.Reason, message string) error {
		_, err := adapter.SetConditions(s.Ctx, []corev1.PodCondition{{
			Type: contract.Condition, Status: status, Reason: string(reason), Message: message, LastTransitionTime: metav1.Now(),
		}})
		return err
	}
	s.Eventually("the grant to be in force", func(context.Context) (bool, error) {
		err := write(corev1.ConditionFalse, contract.Starting, "")
		return err == nil, err
	})
	for _, reason := range contract.Reasons() {
		if err := write(corev1.ConditionTrue, reason, strings.Repeat("m", contract.MaxConditionMessage)); err != nil {
			s.Errorf("condition %s: %v", reason, err)
		}
	}
	for _, doc := range contract.Events() {
		err := adapter.CreateEvent(s.Ctx, agentlet.Event{
			Warning: doc.Warning, Reason: doc.Reason, Message: strings.Repeat("m", contract.MaxEventMessage), At: time.Now(),
		})
		if err != nil {
			s.Errorf("event %s: %v", doc.Reason, err)
		}
	}
}

// conditionAttacks are writes of the pod's own condition that would fill etcd or control a terminal.
func conditionAttacks(own kubernetes.Interface) map[string]attack {
	condition := func(fields string) string {
		return fmt.Sprintf(`{"status":{"conditions":[{"type":%q,%s}]}}`, contract.Condition, fields)
	}
	attacks := map[string]attack{}
	for name, body := range map[string]string{
		"a message of 1.4 MiB":            condition(`"message":"` + strings.Repeat("m", 1400<<10) + `"`),
		"a message of 4 KiB and a byte":   condition(`"message":"` + strings.Repeat("m", contract.MaxConditionMessage+1) + `"`),
		"a message that clears a screen":  condition(`"message":"\u001b[2J\u001b[H"`),
		"a reason that clears a screen":   condition(`"reason":"\u001b[2J"`),
		"a reason of two lines":           condition(`"reason":"Ready\nForged"`),
		"a long reason":                   condition(`"reason":"` + strings.Repeat("R", 100<<10) + `"`),
		"a status that does not exist":    condition(`"status":"Perhaps"`),
		"a long status":                   condition(`"status":"` + strings.Repeat("T", 100<<10) + `"`),
		"its own type twice":              `[{"op":"add","path":"/status/conditions/-","value":{"type":"` + contract.Condition + `","status":"True"}}]`,
		"a generateName":                  `{"metadata":{"generateName":"other-"}}`,
		"a generateName of 1.4 MiB":       `{"metadata":{"generateName":"` + strings.Repeat("x", 1400<<10) + `"}}`,
		"the name of another's condition": `{"status":{"conditions":[{"type":"` + strings.Repeat("x", 60) + `","status":"True"}]}}`,
	} {
		attacks[name] = attack{own, "own", "status", body}
	}
	return attacks
}

// attacked is the name prefix of events that must not be created.
const attacked = "attacked."

// eventAttacks are events that a pod's agentlet would not create.
func eventAttacks(s *scenario.S, pod *corev1.Pod) map[string]*corev1.Event {
	huge := strings.Repeat("x", 250<<10)
	fields := func(text string) []metav1.ManagedFieldsEntry {
		return []metav1.ManagedFieldsEntry{{
			Manager: "any", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(text),
		}}
	}
	events := map[string]*corev1.Event{}
	for name, change := range map[string]func(*corev1.Event){
		"a message of 250 KiB": func(e *corev1.Event) { e.Message = huge },
		"a message that clears a screen": func(e *corev1.Event) {
			e.Message = "\x1b[2J"
		},
		"a reason of 250 KiB":    func(e *corev1.Event) { e.Reason = huge },
		"a reason of two lines":  func(e *corev1.Event) { e.Reason = "Registered\nForged" },
		"a type":                 func(e *corev1.Event) { e.Type = "Alarm" },
		"the kubelet's":          func(e *corev1.Event) { e.Source = corev1.EventSource{Component: "kubelet", Host: "node1"} },
		"the kubelet's, as new":  func(e *corev1.Event) { e.ReportingController = "kubelet" },
		"a host of 250 KiB":      func(e *corev1.Event) { e.Source.Host = huge },
		"an instance of 250 KiB": func(e *corev1.Event) { e.ReportingInstance = huge },
		"an action of 250 KiB":   func(e *corev1.Event) { e.Action = huge },
		"about another pod":      func(e *corev1.Event) { e.InvolvedObject.Name, e.InvolvedObject.UID = "other", "other" },
		"about a predecessor":    func(e *corev1.Event) { e.InvolvedObject.UID = "other" },
		"about a Secret":         func(e *corev1.Event) { e.InvolvedObject.Kind = "Secret" },
		"about 250 KiB":          func(e *corev1.Event) { e.InvolvedObject.FieldPath = huge },
		"a related object":       func(e *corev1.Event) { e.Related = &corev1.ObjectReference{Kind: "Node", Name: huge} },
		"a series": func(e *corev1.Event) {
			e.Series = &corev1.EventSeries{Count: 1 << 30, LastObservedTime: metav1.NowMicro()}
		},
		"labels":                 func(e *corev1.Event) { e.Labels = map[string]string{"a": "b"} },
		"annotations of 250 KiB": func(e *corev1.Event) { e.Annotations = map[string]string{"a": huge} },
		"a finalizer":            func(e *corev1.Event) { e.Finalizers = []string{"example.com/stay"} },
		"an owner": func(e *corev1.Event) {
			e.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}}
		},
		"a generated name":          func(e *corev1.Event) { e.Name, e.GenerateName = "", attacked },
		"managedFields of 250 KiB":  func(e *corev1.Event) { e.ManagedFields = fields(fmt.Sprintf(`{"f:%s":{}}`, huge)) },
		"the manager's own, longer": func(e *corev1.Event) { e.ManagedFields = fields(`{"f:metadata":{"f:labels":{"f:` + huge + `":{}}}}`) },
	} {
		now := metav1.Now()
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Name: attacked + fmt.Sprintf("%x", len(events)), Namespace: s.Namespace},
			InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: s.Namespace, Name: pod.Name, UID: pod.UID},
			Type:           corev1.EventTypeNormal, Reason: string(contract.Registered), Message: "there", Count: 1, FirstTimestamp: now, LastTimestamp: now,
			Source: corev1.EventSource{Component: contract.ContainerName}, ReportingController: contract.ReportingController, ReportingInstance: pod.Name,
		}
		change(event)
		events[name] = event
	}
	return events
}

// TestTrustOthersEventsAreLeftAlone tests an application that creates and patches events by other rights: it can continue when
// its account is bound to the agentlet's role. An account that can only create events is indistinguishable from an agentlet.
func TestTrustOthersEventsAreLeftAlone(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	verbs := map[string]string{"operator": "create,patch", "creator": "create", "plain": ""}
	s.Given("accounts that the agentlet's role is bound to, one of which may also create and patch events, and another create them", func() {
		for account, allowed := range verbs {
			serviceAccount(s, account)
			_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "rolebinding", "ours-"+account, "--clusterrole="+grantRole, "--serviceaccount="+s.Namespace+":"+account)
			s.Must(err)
			for _, resource := range []string{"events", "events.events.k8s.io"} {
				if allowed == "" {
					continue
				}
				name := account + "-" + resource
				for _, args := range [][]string{
					{"create", "role", name, "--verb=" + allowed, "--resource=" + resource},
					{"create", "rolebinding", name, "--role=" + name, "--serviceaccount=" + s.Namespace + ":" + account},
				} {
					_, err := s.Kubectl(s.Ctx, append([]string{"-n", s.Namespace}, args...)...)
					s.Must(err)
				}
			}
		}
	})
	about := corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: s.Namespace, Name: "any"}
	meta := metav1.ObjectMeta{GenerateName: "theirs-", Labels: map[string]string{"a": "b"}}
	core := func(account string) error {
		_, err := withToken(s, tokenOf(s, s.Namespace, account, nil)).CoreV1().Events(s.Namespace).Create(s.Ctx, &corev1.Event{
			ObjectMeta: meta, InvolvedObject: about, Reason: "Reconciled", Source: corev1.EventSource{Component: "operator"},
		}, metav1.CreateOptions{})
		return err
	}
	other := func(account string) error {
		_, err := withToken(s, tokenOf(s, s.Namespace, account, nil)).EventsV1().Events(s.Namespace).Create(s.Ctx, &eventsv1.Event{
			ObjectMeta: meta, Regarding: about, Reason: "Reconciled", Action: "Reconcile", Type: "Normal", EventTime: metav1.NowMicro(),
			ReportingController: "example.com/operator", ReportingInstance: "operator-1",
		}, metav1.CreateOptions{})
		return err
	}
	for form, create := range map[string]func(account string) error{"v1": core, "events.k8s.io/v1": other} {
		s.Then("in the form of "+form+"  the first may write any event, and the others may not", func() {
			s.Eventually("its role to be in force", func(context.Context) (bool, error) { err := create("operator"); return err == nil, err })
			s.Eventually("the other's role to be in force", func(context.Context) (bool, error) {
				err := create("creator")
				return refusedBy(eventsPolicy, err), err
			})
			if err := create("plain"); !refused(err) {
				s.Errorf("without a right of its own: %v", err)
			}
		})
	}
}
