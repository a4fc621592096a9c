package workload

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
)

func TestErrorsNameTheTemplatesPath(t *testing.T) {
	invalid := field.Invalid(field.NewPath("metadata", "annotations").Key("agentlet.dev/gate"), "ajar", "x")
	for _, test := range []struct{ version, kind, object, path string }{
		{"v1", "Pod", `{"spec":{"containers":[{"name":"x"}]}}`, ""},
		{"v1", "PodTemplate", `{"template":{"spec":{"containers":[{"name":"x"}]}}}`, "template."},
		{"apps/v1", "Deployment", `{"spec":{"template":{"spec":{"containers":[{"name":"x"}]}}}}`, "spec.template."},
		{"batch/v1", "CronJob", `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"x"}]}}}}}}`, "spec.jobTemplate.spec.template."},
	} {
		path, ok := Path(test.version, test.kind)
		if !ok {
			t.Fatalf("%s: not known", test.kind)
		}
		template, err := Template([]byte(test.object), path)
		if err != nil {
			t.Fatalf("%s: %v", test.kind, err)
		}
		if pod, err := Pod(template); err != nil || len(pod.Spec.Containers) != 1 || pod.Spec.Containers[0].Name != "x" {
			t.Errorf("%s: %v, %v", test.kind, pod, err)
		}
		if got, want := AtPath(path, invalid).Field, test.path+invalid.Field; got != want {
			t.Errorf("%s: %s, want %s", test.kind, got, want)
		}
	}
	if invalid.Field != "metadata.annotations[agentlet.dev/gate]" {
		t.Error("the argument was changed")
	}
}

func TestTheTemplateOfAnyKind(t *testing.T) {
	const template = `{"metadata":{},"spec":{"containers":[{"name":"x"}]}}`
	for name, test := range map[string]struct{ object, want string }{
		"a Rollout":                  {`{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","spec":{"template":` + template + `}}`, "spec.template"},
		"an old group's CronJob":     {`{"apiVersion":"batch/v1beta1","kind":"CronJob","spec":{"jobTemplate":{"spec":{"template":` + template + `}}}}`, "spec.jobTemplate.spec.template"},
		"at the top":                 {`{"apiVersion":"example.com/v1","kind":"Any","template":` + template + `}`, "template"},
		"no containers":              {`{"apiVersion":"example.com/v1","kind":"Any","spec":{"template":{"spec":{}}}}`, ""},
		"containers that are a text": {`{"apiVersion":"example.com/v1","kind":"Any","spec":{"template":{"spec":{"containers":"x"}}}}`, ""},
		"a text for a template":      {`{"apiVersion":"example.com/v1","kind":"Any","spec":{"template":"x"}}`, ""},
		"elsewhere":                  {`{"apiVersion":"example.com/v1","kind":"Any","spec":{"pod":` + template + `}}`, ""},
		"a kind that has its place":  {`{"apiVersion":"apps/v1","kind":"Deployment","template":` + template + `}`, "spec.template"},
	} {
		var o Object
		if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(test.object), &o); err != nil {
			t.Fatal(err)
		}
		path, ok := o.Path()
		if got := strings.Join(path, "."); got != test.want || ok != (test.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, ok, test.want)
		}
	}
}

func TestAnErrorOfTheNamespaceStaysWhereItIs(t *testing.T) {
	err := field.Invalid(field.NewPath("namespace", "metadata", "annotations").Key("x"), "", "x")
	if got := AtPath([]string{"spec", "template"}, err).Field; got != err.Field {
		t.Error(got)
	}
}

func TestObjectsWithoutATemplate(t *testing.T) {
	for _, kind := range [][2]string{{"v1", "ConfigMap"}, {"example.com/v1", "Deployment"}, {"", ""}} {
		if path, ok := Path(kind[0], kind[1]); ok {
			t.Errorf("%v has one at %v", kind, path)
		}
	}
	for _, object := range []string{`{}`, `{"spec":7}`, `{"spec":{}}`, `[]`, `{"spec":{"template":`} {
		if found, err := Template([]byte(object), []string{"spec", "template"}); err == nil {
			t.Errorf("%s: found %s", object, found)
		}
	}
	if _, err := Pod([]byte(`{"spec":7}`)); err == nil {
		t.Error("read")
	}
}
