package webhook

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
)

func testWorkloads(decider Decider, namespaces Namespaces) *handler {
	return testHandler(&workloads{podReviewer{decider, nil, namespaces}}, validating)
}

// edits change the template of a workload.
type edit func(object, template map[string]any)

func annotate(key, value string) edit {
	return func(_, template map[string]any) {
		template["metadata"].(map[string]any)["annotations"].(map[string]any)["agentlet.dev/"+key] = value
	}
}

func meta(key string, value any) edit {
	return func(object, _ map[string]any) { object["metadata"].(map[string]any)[key] = value }
}

// misplace annotates the object.
func misplace(keys ...string) edit {
	annotations := map[string]any{}
	for _, key := range keys {
		annotations["agentlet.dev/"+key] = "web"
	}
	return meta("annotations", annotations)
}

// deployment is one with an annotated template, as the API server sends it.
func deployment(edits ...edit) map[string]any {
	template := map[string]any{
		"metadata": map[string]any{
			"labels":      map[string]any{"app": "web"},
			"annotations": map[string]any{"agentlet.dev/service-names": "web"},
		},
		"spec": map[string]any{
			"terminationGracePeriodSeconds": 30,
			"containers": []any{map[string]any{
				"name": "web", "image": "web", "ports": []any{map[string]any{"containerPort": 8080, "protocol": "TCP"}},
			}},
		},
	}
	object := map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": map[string]any{"name": "web", "namespace": "shop"},
		"spec":     map[string]any{"replicas": 1, "template": template},
	}
	for _, e := range edits {
		e(object, template)
	}
	return object
}

// as turns a Deployment into an object of another kind, with the template at that kind's path.
func as(object map[string]any, version, kind string) map[string]any {
	object["apiVersion"], object["kind"] = version, kind
	if spec := object["spec"].(map[string]any); kind == "CronJob" {
		object["spec"] = map[string]any{"schedule": "@daily", "jobTemplate": map[string]any{"spec": spec}}
	}
	return object
}

// before inserts a container before the others.
func before(_, template map[string]any) {
	spec := template["spec"].(map[string]any)
	spec["containers"] = append([]any{map[string]any{"name": "first", "image": "x"}}, spec["containers"].([]any)...)
}

// collides declares the agentlet's port.
func collides(_, template map[string]any) {
	web := template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)
	web["ports"] = []any{map[string]any{"containerPort": 19500}}
}

func workloadReview(t *testing.T, object, old map[string]any) []byte {
	t.Helper()
	return envelope(t, nil, func(_, request map[string]any) {
		kind, _ := object["kind"].(string)
		request["kind"] = map[string]string{"group": "apps", "version": "v1", "kind": kind}
		request["object"], request["oldObject"] = object, old
		if old != nil {
			request["operation"] = "UPDATE"
		}
	})
}

// TestWhatIsMissingInACustomKindIsAWarning: its controller may add it, as Knative's declares the container's port.
func TestWhatIsMissingInACustomKindIsAWarning(t *testing.T) {
	portless := func(_, template map[string]any) {
		delete(template["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any), "ports")
	}
	for _, c := range []struct {
		version, kind string
		allowed       bool
	}{{"apps/v1", "Deployment", false}, {"serving.knative.dev/v1", "Service", true}} {
		t.Run(c.kind, func(t *testing.T) {
			handler := testWorkloads(realInjector(t), nil)
			response := answerOf(t, post(handler, workloadReview(t, as(deployment(portless), c.version, c.kind), nil)))
			said := strings.Join(response.Warnings, " ")
			if response.Allowed != c.allowed || strings.Contains(said, "no container declares a port") != c.allowed {
				t.Errorf("allowed %t, warned %q, want allowed: %t", response.Allowed, said, c.allowed)
			}
		})
	}
}

func TestErrorsOfEveryKindAreReportedAtOnceWithTheirPaths(t *testing.T) {
	for _, kind := range []struct{ version, kind, at string }{
		{"apps/v1", "Deployment", "spec.template."},
		{"apps/v1", "StatefulSet", "spec.template."},
		{"apps/v1", "DaemonSet", "spec.template."},
		{"apps/v1", "ReplicaSet", "spec.template."},
		{"batch/v1", "Job", "spec.template."},
		{"batch/v1", "CronJob", "spec.jobTemplate.spec.template."},
		{"argoproj.io/v1alpha1", "Rollout", "spec.template."},
		{"apps.kruise.io/v1alpha1", "CloneSet", "spec.template."},
		{"serving.knative.dev/v1", "Service", "spec.template."},
	} {
		t.Run(kind.kind, func(t *testing.T) {
			handler := testWorkloads(realInjector(t), nil)
			object := as(deployment(annotate("gate", "ajar"), annotate("drain-delay", "soon"), annotate("tag", "x"), collides), kind.version, kind.kind)
			response := answerOf(t, post(handler, workloadReview(t, object, nil)))
			if response.Allowed || response.Patch != nil {
				t.Fatalf("%+v", response)
			}
			for _, want := range []string{
				"3 errors:",
				kind.at + `metadata.annotations[agentlet.dev/gate]: Invalid value: "ajar": must be passing, registered or off`,
				kind.at + "metadata.annotations[agentlet.dev/drain-delay]",
				kind.at + "spec.containers[0].ports[0].containerPort",
			} {
				if !strings.Contains(response.Result.Message, want) {
					t.Errorf("no %q in %s", want, response.Result.Message)
				}
			}
			if !slices.ContainsFunc(response.Warnings, func(w string) bool { return strings.Contains(w, "agentlet.dev/tag is not known") }) {
				t.Errorf("warnings %q", response.Warnings)
			}
			if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("validating", "denied", "InvalidAnnotations")); n != 1 {
				t.Errorf("counted %v times", n)
			}
		})
	}
}

func TestAcceptedWorkloads(t *testing.T) {
	const ajar = `agentlet.dev/gate]: Invalid value: "ajar"`
	controller := meta("ownerReferences", []any{map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "1", "controller": true,
	}})
	for name, test := range map[string]struct {
		object, old map[string]any
		denied      []string // parts of the denial; none: allowed
		reason      injector.Reason
		warns       []string
	}{
		"well":                     {object: deployment(), reason: reasonValid},
		"not annotated":            {object: deployment(func(_, t map[string]any) { delete(t, "metadata") }), reason: injector.ReasonNotAnnotated},
		"opted out":                {object: deployment(annotate("gate", "ajar"), annotate("inject", "false")), reason: injector.ReasonOptedOut},
		"an error":                 {object: deployment(annotate("gate", "ajar")), denied: []string{ajar}, reason: injector.ReasonInvalidAnnotations},
		"no template":              {object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap"}, reason: reasonNotAWorkload},
		"a pod":                    {object: map[string]any{"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"annotations": map[string]any{"agentlet.dev/services": "x"}}}, reason: reasonNotAWorkload},
		"a kind of another group":  {object: as(deployment(annotate("gate", "ajar")), "argoproj.io/v1alpha1", "Rollout"), denied: []string{"spec.template.metadata.annotations[" + ajar}, reason: injector.ReasonInvalidAnnotations},
		"one that gets a template": {object: as(deployment(annotate("gate", "open")), "argoproj.io/v1alpha1", "Rollout"), old: map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}, denied: []string{`"open"`}, reason: injector.ReasonInvalidAnnotations},
		"one without a template":   {object: map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": map[string]any{"workloadRef": map[string]any{"name": "web"}}}, reason: reasonNotAWorkload},
		"annotated beside its template": {
			object: deployment(misplace("service-names", "service-port")), reason: reasonValid,
			warns: []string{"annotation agentlet.dev/service-port: no effect on a Deployment; agentlet reads it from spec.template.metadata.annotations"},
		},
		"annotated with a slip beside it": {object: deployment(misplace("service-name")), reason: reasonValid, warns: []string{"annotation agentlet.dev/service-name: no effect on a Deployment"}},
		"annotated instead of its template": {
			object: deployment(misplace("service-names"), func(_, t map[string]any) { delete(t, "metadata") }), reason: injector.ReasonNotAnnotated,
			warns: []string{"annotation agentlet.dev/service-names: no effect on a Deployment"},
		},
		"annotated afterwards":     {object: deployment(misplace("service-port")), old: deployment(), reason: reasonUnchanged, warns: []string{"annotation agentlet.dev/service-port: no effect"}},
		"annotated before":         {object: deployment(misplace("service-port")), old: deployment(misplace("service-port")), reason: reasonUnchanged},
		"annotated with another's": {object: deployment(meta("annotations", map[string]any{"agentlet.dev/of-others-altogether": "x"})), reason: reasonValid},
		"an annotated Service": {
			object: map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"annotations": map[string]any{"agentlet.dev/service-names": "web"}}}, reason: reasonNotAWorkload,
			warns: []string{"annotation agentlet.dev/service-names: no effect on a Service; agentlet reads it from the annotations of pods"},
		},
		"of a controller":           {object: deployment(annotate("gate", "ajar"), controller), reason: reasonControlled},
		"updated by a controller":   {object: deployment(annotate("gate", "ajar"), controller), old: deployment(controller), reason: reasonControlled},
		"owned, but not controlled": {object: deployment(annotate("gate", "ajar"), meta("ownerReferences", []any{map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}})), denied: []string{ajar}, reason: injector.ReasonInvalidAnnotations},
		"being deleted":             {object: deployment(annotate("gate", "ajar"), meta("deletionTimestamp", "2026-01-01T00:00:00Z")), old: deployment(), reason: reasonTerminating},
		"unchanged template":        {object: deployment(annotate("gate", "ajar"), meta("labels", map[string]any{"a": "b"})), old: deployment(annotate("gate", "ajar")), reason: reasonUnchanged},
		"scaled":                    {object: deployment(annotate("gate", "ajar"), func(o, _ map[string]any) { o["spec"].(map[string]any)["replicas"] = 7 }), old: deployment(annotate("gate", "ajar")), reason: reasonUnchanged},
		"an error that was there":   {object: deployment(annotate("gate", "ajar"), annotate("restartedAt", "now")), old: deployment(annotate("gate", "ajar")), reason: reasonNothingNew, warns: []string{"its pods will be refused, as before: spec.template.metadata.annotations[" + ajar}},
		"the same error, moved":     {object: deployment(collides, before), old: deployment(collides), reason: reasonNothingNew, warns: []string{"spec.template.spec.containers[1].ports[0].containerPort"}},
		"a new error beside an old": {object: deployment(annotate("gate", "ajar"), annotate("drain-delay", "soon")), old: deployment(annotate("gate", "ajar")), denied: []string{"drain-delay"}, reason: injector.ReasonInvalidAnnotations, warns: []string{ajar}},
		"another value of it":       {object: deployment(annotate("gate", "open")), old: deployment(annotate("gate", "ajar")), denied: []string{`"open"`}, reason: injector.ReasonInvalidAnnotations},
		"an error corrected":        {object: deployment(), old: deployment(annotate("gate", "ajar")), reason: reasonValid},
		"an unknown key":            {object: deployment(annotate("service-tgas", "x")), reason: reasonValid, warns: []string{"agentlet.dev/service-tgas is not known to agentlet; did you mean agentlet.dev/service-tags?"}},
		"a short grace period": {
			object: deployment(func(_, t map[string]any) { t["spec"].(map[string]any)["terminationGracePeriodSeconds"] = 5 }),
			reason: reasonValid, warns: []string{"terminationGracePeriodSeconds 5 leaves"},
		},
		"a tag that the namespace may not use":  {object: deployment(annotate("service-tags", "x")), denied: []string{`spec.template.metadata.annotations[agentlet.dev/service-tags]: Forbidden: tag "x"`}, reason: injector.ReasonTagNotAllowed},
		"a name that the namespace may not use": {object: deployment(annotate("service-names", "pay")), denied: []string{`spec.template.metadata.annotations[agentlet.dev/service-names]: Forbidden: service "pay"`}, reason: injector.ReasonServiceNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			handler := testWorkloads(realInjector(t), &fakeNamespaces{annotations: map[string]string{contract.AllowedServices: "web", contract.AllowedTags: "v*"}})
			response := answerOf(t, post(handler, workloadReview(t, test.object, test.old)))
			outcome := "accepted"
			switch {
			case len(test.denied) > 0:
				outcome = "denied"
			case !slices.Contains([]injector.Reason{reasonValid, reasonNothingNew, injector.ReasonNotAnnotated, injector.ReasonOptedOut}, test.reason):
				outcome = "skipped"
			}
			if n := testutil.ToFloat64(handler.metrics.admissions.WithLabelValues("validating", outcome, string(test.reason))); n != 1 {
				t.Errorf("counted %v times as %s, %s", n, outcome, test.reason)
			}
			if response.Allowed != (len(test.denied) == 0) {
				t.Fatalf("allowed %t: %+v", response.Allowed, response.Result)
			}
			for _, want := range test.denied {
				if !strings.Contains(response.Result.Message, want) {
					t.Errorf("no %q in %s", want, response.Result.Message)
				}
			}
			if test.reason == injector.ReasonInvalidAnnotations && test.old != nil && strings.Contains(response.Result.Message, ajar) {
				t.Errorf("denied for what was there before: %s", response.Result.Message)
			}
			for _, want := range test.warns {
				if !slices.ContainsFunc(response.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
					t.Errorf("no %q in %q", want, response.Warnings)
				}
			}
			if len(test.warns) == 0 && outcome != "denied" && len(response.Warnings) > 0 {
				t.Errorf("warnings %q", response.Warnings)
			}
		})
	}
}

// A workload that can't be reviewed is left to the failurePolicy, which is Ignore.
func TestAWorkloadThatCantBeReadIsNotDenied(t *testing.T) {
	unknown := &fakeNamespaces{problem: errors.New("not read yet")}
	for name, test := range map[string]struct {
		namespaces Namespaces
		body       []byte
		status     int
	}{
		"no JSON":           {body: []byte("x"), status: 400},
		"no review":         {body: []byte("{}"), status: 400},
		"object is a list":  {body: envelope(t, []byte("[]"), nil), status: 400},
		"no template":       {body: workloadReview(t, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{}}, nil), status: 400},
		"template a number": {body: workloadReview(t, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{"template": 7}}, nil), status: 400},
		"no old template":   {body: workloadReview(t, deployment(), map[string]any{"spec": 7}), status: 400},
		"unknown namespace": {namespaces: unknown, body: workloadReview(t, deployment(), nil), status: 500},
	} {
		if recorder := post(testWorkloads(realInjector(t), test.namespaces), test.body); recorder.Code != test.status {
			t.Errorf("%s: status %d: %s", name, recorder.Code, recorder.Body)
		}
	}
}

func TestOtherOperationsOnWorkloadsAreNotReviewed(t *testing.T) {
	fail := decide(func(injector.Request) injector.Decision { t.Error("judged"); return injector.Decision{} })
	for name, change := range map[string]func(request map[string]any){
		"delete":  func(r map[string]any) { r["operation"], r["object"] = admissionv1.Delete, nil },
		"connect": func(r map[string]any) { r["operation"] = admissionv1.Connect },
		"scale":   func(r map[string]any) { r["operation"], r["subResource"] = admissionv1.Update, "scale" },
		"status":  func(r map[string]any) { r["operation"], r["subResource"] = admissionv1.Update, "status" },
	} {
		object, err := json.Marshal(deployment(annotate("gate", "ajar")))
		if err != nil {
			t.Fatal(err)
		}
		body := envelope(t, object, func(_, request map[string]any) { change(request) })
		recorder := post(testWorkloads(fail, nil), body)
		if recorder.Code != http.StatusOK || !answerOf(t, recorder).Allowed {
			t.Errorf("%s: %d %s", name, recorder.Code, recorder.Body)
		}
	}
}
