package policies

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// ownEvent returns an event as an agentlet writes it and the API server completes it.
func ownEvent() *corev1.Event {
	now := metav1.NewTime(time.Unix(1e9, 0))
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web.17a", UID: "uid-of-event", CreationTimestamp: now,
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: "agentlet", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &now, FieldsType: "FieldsV1",
				FieldsV1: metav1.NewFieldsV1(`{"f:count":{},"f:firstTimestamp":{},"f:involvedObject":{},"f:lastTimestamp":{},"f:message":{},` +
					`"f:reason":{},"f:reportingComponent":{},"f:reportingInstance":{},"f:source":{"f:component":{}},"f:type":{}}`),
			}},
		},
		InvolvedObject: corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web", UID: "uid-of-web"},
		Type:           corev1.EventTypeNormal, Reason: string(contract.Registered), Message: "the catalog shows web at 10.1.2.3",
		FirstTimestamp: now, LastTimestamp: now, Count: 1, Source: corev1.EventSource{Component: contract.ContainerName},
		ReportingController: contract.ReportingController, ReportingInstance: "web",
	}
}

func TestOwnPodEvents(t *testing.T) {
	const (
		account = "system:serviceaccount:shop:web"
		about   = "a pod may create events about itself only"
		from    = "a pod may create events in the agentlet's name only"
		meta    = "an event may have no labels, annotations, finalizers, owners or generateName"
		managed = "an event's managedFields are for the API server to write"
		fields  = "an event may have no action, series, related object, or other field that the agentlet does not write"
		kind    = "an event's type is Normal or Warning"
		reason  = "an event's reason is CamelCase and has at most 64 letters and digits"
		message = "an event's message has at most 1024 bytes, and no control characters"
	)
	own := token(account, map[string]string{"pod-name": "web", "pod-uid": "uid-of-web", "node-name": "node1"})
	role := map[string]bool{"open gates": true, "create events": true}
	huge := strings.Repeat("x", 250<<10)
	type attempt struct {
		user       user.Info
		authorizes map[string]bool
		change     func(*corev1.Event)
		denial     string
	}
	another := func(e *corev1.Event) { e.InvolvedObject.Name, e.Source.Component, e.Message = "other", "kubelet", huge }
	none := func(*corev1.Event) {}
	cases := map[string]attempt{
		"the own": {own, role, none, ""},
		"of another pod's token": {
			token(account, map[string]string{"pod-name": "other", "pod-uid": "other"}), role, none, about,
		},
		"of a predecessor's token": {token(account, map[string]string{"pod-name": "web", "pod-uid": "other"}), role, none, about},
		"of no pod's token":        {token(account, nil), role, none, about},
		"of a user who is bound":   {&user.DefaultInfo{Name: "mallory"}, role, none, about},
		"without our role":         {own, map[string]bool{"create events": true}, another, ""},
		"of who may patch events":  {own, map[string]bool{"open gates": true, "patch events": true}, another, ""},
		"a kubelet's":              {&user.DefaultInfo{Name: "system:node:node1"}, role, another, ""},
	}
	for denial, changes := range map[string]map[string]func(*corev1.Event){
		"": {
			"a warning":       func(e *corev1.Event) { e.Type = corev1.EventTypeWarning },
			"two lines":       func(e *corev1.Event) { e.Message = "a\n\tb" },
			"a long message":  func(e *corev1.Event) { e.Message = strings.Repeat("ü", contract.MaxEventMessage/2) },
			"no managers yet": func(e *corev1.Event) { e.ManagedFields = nil },
			"a time":          func(e *corev1.Event) { e.EventTime = metav1.NowMicro() },
		},
		about: {
			"another pod":       func(e *corev1.Event) { e.InvolvedObject.Name, e.InvolvedObject.UID = "other", "other" },
			"a UID":             func(e *corev1.Event) { e.InvolvedObject.UID = "other" },
			"a Node":            func(e *corev1.Event) { e.InvolvedObject.Kind = "Node" },
			"another API":       func(e *corev1.Event) { e.InvolvedObject.APIVersion = "example.com/v1" },
			"another namespace": func(e *corev1.Event) { e.InvolvedObject.Namespace = "kube-system" },
			"a long path":       func(e *corev1.Event) { e.InvolvedObject.FieldPath = huge },
			"a long version":    func(e *corev1.Event) { e.InvolvedObject.ResourceVersion = huge },
		},
		from: {
			"the kubelet":      func(e *corev1.Event) { e.Source.Component = "kubelet" },
			"a host":           func(e *corev1.Event) { e.Source.Host = huge },
			"no source":        func(e *corev1.Event) { e.Source = corev1.EventSource{} },
			"a controller":     func(e *corev1.Event) { e.ReportingController = "kubernetes.io/kubelet" },
			"another":          func(e *corev1.Event) { e.ReportingInstance = huge },
			"nobody reporting": func(e *corev1.Event) { e.ReportingController = "" },
		},
		meta: {
			"labels":       func(e *corev1.Event) { e.Labels = map[string]string{"a": "b"} },
			"annotations":  func(e *corev1.Event) { e.Annotations = map[string]string{"a": huge} },
			"finalizers":   func(e *corev1.Event) { e.Finalizers = []string{"example.com/stay"} },
			"owners":       func(e *corev1.Event) { e.OwnerReferences = []metav1.OwnerReference{{Name: huge}} },
			"generateName": func(e *corev1.Event) { e.GenerateName = huge },
		},
		managed: {
			"two managers": func(e *corev1.Event) { e.ManagedFields = append(e.ManagedFields, e.ManagedFields...) },
			"a long field": func(e *corev1.Event) {
				e.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(fmt.Sprintf(`{"f:%s":{}}`, huge))
			},
			"a deep field": func(e *corev1.Event) {
				e.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(fmt.Sprintf(`{"f:source":{"f:component":{%q:{}}}}`, huge))
			},
			"a wide field": func(e *corev1.Event) {
				e.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(fmt.Sprintf(`{"f:source":{%q:{}}}`, huge))
			},
			"no field": func(e *corev1.Event) { e.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(`{"k:a":{}}`) },
			"its metadata's": func(e *corev1.Event) {
				e.ManagedFields[0].FieldsV1 = metav1.NewFieldsV1(fmt.Sprintf(`{"f:metadata":{"f:labels":{%q:{}}}}`, huge))
			},
		},
		fields: {
			"an action": func(e *corev1.Event) { e.Action = huge },
			"a series":  func(e *corev1.Event) { e.Series = &corev1.EventSeries{} },
			"related":   func(e *corev1.Event) { e.Related = &corev1.ObjectReference{Name: huge} },
		},
		kind: {"no type": func(e *corev1.Event) { e.Type = "" }, "a long type": func(e *corev1.Event) { e.Type = huge }},
		reason: {
			"no reason":             func(e *corev1.Event) { e.Reason = "" },
			"a long reason":         func(e *corev1.Event) { e.Reason = huge },
			"a reason's line break": func(e *corev1.Event) { e.Reason = "Registered\n" },
		},
		message: {
			"a longer message": func(e *corev1.Event) { e.Message = strings.Repeat("ü", contract.MaxEventMessage/2) + "m" },
			"a huge message":   func(e *corev1.Event) { e.Message = huge },
			"an escape":        func(e *corev1.Event) { e.Message = "\x1b[2J" },
		},
	} {
		for name, change := range changes {
			cases[name] = attempt{own, role, change, denial}
		}
	}
	each(t, "own-pod-events", func(t *testing.T, c compiled) {
		for name, test := range cases {
			event, asked := ownEvent(), 0
			test.change(event)
			denials, cost := c.judge(t, request{
				operation: admission.Create, kind: corev1.SchemeGroupVersion.WithKind("Event"), resource: "events", now: event,
				user: test.user, authorizes: test.authorizes, namespace: &corev1.Namespace{}, asked: &asked,
			})
			if most, known := map[string]int{"a kubelet's": 0, "of who may patch events": 1}[name]; known && asked > most {
				t.Errorf("%s: the authorizers were asked %d times, want at most %d", name, asked, most)
			}
			if len(denials) == 0 != (test.denial == "") || len(denials) > 0 && denials[0] != test.denial {
				t.Errorf("%s: denied by %q, want %q", name, denials, test.denial)
			}
			if name == "the own" {
				t.Logf("%s costs %d", name, cost)
			}
		}
	})
}
