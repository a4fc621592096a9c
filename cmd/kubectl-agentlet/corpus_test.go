package main

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/corpus"
	"github.com/agentlet/agentlet/injector/injectortest"
	"github.com/agentlet/agentlet/injector/workload"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/webhook"
)

// TestCorpus puts each case of the corpus through the plugin and both webhooks. What they say is what the case expects, and what
// holds for every injection holds for each: the webhook's patch only adds, the plugin writes what the webhook makes, and a second
// pass changes nothing.
func TestCorpus(t *testing.T) {
	for _, c := range readCorpus(t) {
		t.Run(c.Name, func(t *testing.T) {
			injected := checkPlugin(t, &c)
			objects, err := corpus.Objects(c.Text)
			if err != nil {
				if outcome, _ := c.Outcome(corpus.Everyone, "", ""); outcome != corpus.Unread {
					t.Fatal(err)
				}
				return
			}
			var written []corpus.Object
			if injected != "" {
				if written, err = corpus.Objects(injected); err != nil || len(written) != len(objects) {
					t.Fatalf("inject wrote %d objects of %d: %v", len(written), len(objects), err)
				}
			}
			r := newReviews(t, &c, objects)
			for i := range objects {
				var after *corpus.Object
				if written != nil {
					after = &written[i]
				}
				r.check(t, &objects[i], after)
			}
			if outcome, _ := c.Outcome(corpus.Everyone, "", ""); (r.pods == 0) != (outcome == corpus.NoPod || !r.read) {
				t.Errorf("%d pods were found, expected is %s", r.pods, outcome)
			}
			if r.read {
				checkWords(t, "the webhooks' warnings", c.Warnings(corpus.Workloads, corpus.Pods), r.warnings)
			}
		})
	}
}

// inNamespace is where objects are that name no namespace.
const inNamespace = "shop"

func readCorpus(t *testing.T) []corpus.Case {
	t.Helper()
	cases, err := corpus.Read()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 150 {
		t.Errorf("%d cases", len(cases))
	}
	return cases
}

func checkWords(t *testing.T, what string, words, texts []string) {
	t.Helper()
	missing, unexpected := corpus.Unmatched(words, texts)
	for _, words := range missing {
		t.Errorf("%s lack %q", what, words)
	}
	for _, text := range unexpected {
		t.Errorf("%s: nobody expects %q", what, text)
	}
}

// diagnostic is a line of the plugin's about a manifest.
var diagnostic = regexp.MustCompile(`(?m)^(error|warning): (?:stdin:[1-9][0-9]*: )(.*)$`)

// checkPlugin has inject and explain read a case, and returns what inject wrote; empty where it found errors.
func checkPlugin(t *testing.T, c *corpus.Case) (out string) {
	t.Helper()
	args := append([]string{"inject", "-n", inNamespace, "-f", "-"}, c.Flags...)
	out, stderr, err := call(t, c.Text, args...)
	said := map[string][]string{}
	for _, found := range diagnostic.FindAllStringSubmatch(stderr, -1) {
		said[found[1]] = append(said[found[1]], found[2])
	}
	if n := len(strings.Split(strings.TrimSpace(stderr), "\n")); stderr != "" && n != len(said["error"])+len(said["warning"]) {
		t.Errorf("a line without a place:\n%s", stderr)
	}
	errs := c.Errors()
	checkWords(t, "inject's errors", errs, said["error"])
	checkWords(t, "inject's warnings", c.Warnings(corpus.CLI), said["warning"])
	if (err != nil) != (len(errs) > 0) || (err != nil) != (out == "") {
		t.Errorf("inject: %v, and %d bytes", err, len(out))
	}
	args[0] = "explain"
	told, stderr, failed := call(t, c.Text, args...)
	if (failed != nil) != (err != nil) {
		t.Errorf("inject says %v, explain %v", err, failed)
	}
	for _, text := range append(errs, c.Explained...) {
		if !strings.Contains(strings.ReplaceAll(told, "\n", " ")+stderr, text) {
			t.Errorf("explain doesn't say %q:\n%s%s", text, told, stderr)
		}
	}
	if err != nil {
		return ""
	}
	args[0] = "inject"
	if again, _, err := call(t, out, args...); err != nil || again != out {
		t.Errorf("a second pass: %v\n%s", err, gocmp.Diff(out, again))
	}
	return out
}

// reviews are those of a case's objects by both webhooks.
type reviews struct {
	*corpus.Case
	handler http.Handler
	decider *inNamespaces
	// warnings that they gave, each object's once; read: some object was read.
	warnings []string
	read     bool
	// pods is how many they hold.
	pods int
}

func newReviews(t *testing.T, c *corpus.Case, objects []corpus.Object) *reviews {
	t.Helper()
	flags, set := newWebhookFlags(), pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.addFlags(set)
	if err := set.Parse(c.Flags); err != nil {
		t.Fatal(err)
	}
	if flags.config.Connect.Image == "" {
		flags.config.Connect.Image = anyProxy
	}
	decider, err := flags.injector()
	if err != nil {
		t.Fatal(err)
	}
	in := &inNamespaces{decider, map[string]*corpus.Object{}}
	for i := range objects {
		if objects[i].GetKind() == "Namespace" {
			in.namespaces[objects[i].GetName()] = &objects[i]
		}
	}
	server := webhook.New(webhook.Config{Decider: in, Certificates: noCertificates{}, Log: slog.New(slog.DiscardHandler)})
	return &reviews{Case: c, handler: server.Handler(), decider: in}
}

// inNamespaces decides on pods in the namespaces of a case, as the webhook reads them.
type inNamespaces struct {
	manifests.Decider
	namespaces map[string]*corpus.Object
}

func (n *inNamespaces) Decide(request injector.Request) injector.Decision {
	if namespace := n.namespaces[request.Namespace]; namespace != nil {
		request.NamespaceAnnotations = injector.NamespaceAnnotations(namespace.GetAnnotations())
		request.NamespaceLabels = injector.NamespaceLabels(namespace.GetLabels())
	}
	return n.Decider.Decide(request)
}

type noCertificates struct{}

func (noCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }

func (noCertificates) Trusted() error { return nil }

// check has an object reviewed, and a pod of its template. written is what the plugin makes of it; nil where the plugin found errors.
func (r *reviews) check(t *testing.T, o, written *corpus.Object) {
	t.Helper()
	kind, name := o.GetKind(), o.GetName()
	namespace := cmp.Or(o.GetNamespace(), inNamespace)
	want, words := r.Outcome(corpus.Workloads, kind, name)
	pod, own, err := o.Pod()
	if err != nil || want == corpus.Unread {
		if want != corpus.Unread {
			t.Errorf("%s %s: %v", kind, name, err)
		}
		return
	}
	r.read = true
	if !own {
		answer := r.answer(t, webhook.ValidatePath, kind, namespace, marshal(t, o), nil)
		r.warnings = append(r.warnings, answer.Warnings...)
		r.checkAnswer(t, kind+" "+name, want, words, answer)
		if answer.Patch != nil {
			t.Errorf("%s %s: the webhook for workloads patches it", kind, name)
		}
		if pod != nil {
			r.checkRestart(t, o, namespace)
		}
		if written != nil {
			if answer := r.answer(t, webhook.ValidatePath, kind, namespace, marshal(t, written), marshal(t, o)); !answer.Allowed {
				t.Errorf("%s %s: denied as inject writes it: %s", kind, name, answer.Result.Message)
			}
		}
	}
	if pod == nil {
		return
	}
	r.pods++
	want, words = r.Outcome(corpus.Pods, kind, name)
	before := marshal(t, pod)
	answer := r.answer(t, webhook.MutatePath, "Pod", namespace, before, nil)
	r.checkAnswer(t, "the pod of "+kind+" "+name, want, words, answer)
	if own {
		r.warnings = append(r.warnings, answer.Warnings...)
	} else if _, unexpected := corpus.Unmatched(r.Warnings(corpus.Workloads, corpus.Pods), answer.Warnings); len(unexpected) > 0 {
		t.Errorf("the pod of %s %s: nobody expects %q", kind, name, unexpected)
	}
	if (answer.Patch != nil) != (want == corpus.Injected) {
		t.Errorf("%s %s: the patch is %s, want it %s", kind, name, answer.Patch, want)
	}
	if want == corpus.LeftAlone {
		r.checkReason(t, namespace, before, words)
	}
	after := before
	if answer.Patch != nil {
		after = r.checkPatch(t, namespace, before, answer.Patch)
	}
	if written != nil {
		made, _, err := written.Pod()
		if err != nil || made == nil {
			t.Fatalf("%s %s is lost in what inject writes: %v", kind, name, err)
		}
		if diff := gocmp.Diff(fromBoth(t, after), fromBoth(t, marshal(t, made))); diff != "" {
			t.Errorf("%s %s (-webhook +inject):\n%s", kind, name, diff)
		}
	}
}

func (r *reviews) checkAnswer(t *testing.T, what string, want corpus.Outcome, words []string, answer *admissionv1.AdmissionResponse) {
	t.Helper()
	if answer.Allowed != (want != corpus.Denied) {
		t.Errorf("%s is allowed: %t, want it %s: %+v", what, answer.Allowed, want, answer.Result)
	}
	if answer.Allowed {
		return
	}
	errs := strings.Split(answer.Result.Message, "\n- ")
	if len(errs) > 1 {
		errs = errs[1:] // behind their number
	}
	checkWords(t, "the errors of "+what, words, errs)
}

// checkReason checks why a pod is left alone, which the webhook writes only to its log.
func (r *reviews) checkReason(t *testing.T, namespace string, raw []byte, words []string) {
	t.Helper()
	pod, err := workload.Pod(raw)
	if err != nil {
		t.Fatal(err)
	}
	decision := r.decider.Decide(injector.Request{Namespace: namespace, Pod: pod, Nonce: "x"})
	if len(words) != 1 || string(decision.Reason) != words[0] {
		t.Errorf("left alone for %s, want %q", decision.Reason, words)
	}
}

// checkPatch checks the webhook's patch, and returns the pod with it.
func (r *reviews) checkPatch(t *testing.T, namespace string, before, patch []byte) (after []byte) {
	t.Helper()
	var operations []struct{ Op string }
	if err := json.Unmarshal(patch, &operations); err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		if o.Op != "add" {
			t.Errorf("operation %s", o.Op)
		}
	}
	after = injectortest.Apply(t, before, patch)
	injectortest.CheckAdditions(t, before, after)
	again := r.answer(t, webhook.MutatePath, "Pod", namespace, after, nil)
	if !again.Allowed || again.Patch != nil {
		t.Errorf("the second time: allowed %t, patch %s", again.Allowed, again.Patch)
	}
	return after
}

// checkRestart checks that a workload that is there can be changed, whatever is wrong with its template.
func (r *reviews) checkRestart(t *testing.T, o *corpus.Object, namespace string) {
	t.Helper()
	path, _, err := o.Path()
	if err != nil {
		t.Fatal(err)
	}
	restarted := o.DeepCopy()
	annotations := append(slices.Clone(path), "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
	if err := unstructured.SetNestedField(restarted.Object, "2026-01-01T00:00:00Z", annotations...); err != nil {
		t.Fatal(err)
	}
	answer := r.answer(t, webhook.ValidatePath, o.GetKind(), namespace, marshal(t, restarted), marshal(t, o))
	if !answer.Allowed {
		t.Errorf("a restart of %s %s is denied: %s", o.GetKind(), o.GetName(), answer.Result.Message)
	}
}

// answer is that of a webhook to the creation of an object, or to the update of an old one.
func (r *reviews) answer(t *testing.T, path, kind, namespace string, object, old []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	operation := admissionv1.Create
	if old != nil {
		operation = admissionv1.Update
	}
	body := marshal(t, admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Kind: metav1.GroupVersionKind{Version: "v1", Kind: kind},
			Namespace: namespace, Operation: operation, Object: runtime.RawExtension{Raw: object}, OldObject: runtime.RawExtension{Raw: old},
		},
	})
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	r.handler.ServeHTTP(recorder, request)
	var review admissionv1.AdmissionReview
	if recorder.Code != http.StatusOK {
		t.Fatalf("%s of %s: status %d: %s", path, kind, recorder.Code, recorder.Body)
	}
	if err := json.Unmarshal(recorder.Body.Bytes(), &review); err != nil {
		t.Fatal(err)
	}
	return review.Response
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// fromBoth is a pod without what differs between the webhook's and the plugin's: the nonce, and for which pod it was injected,
// which the plugin doesn't know.
func fromBoth(t *testing.T, raw []byte) any {
	t.Helper()
	var pod any
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	forget(pod)
	return pod
}

func forget(value any) {
	switch value := value.(type) {
	case map[string]any:
		if name := value["name"]; name == contract.EnvNonce || name == contract.NonceHeader {
			delete(value, "value")
		}
		if env, ok := value["env"].([]any); ok {
			value["env"] = slices.DeleteFunc(env, func(item any) bool {
				of, _ := item.(map[string]any)
				return of["name"] == contract.EnvInjectedFor
			})
		}
		for _, member := range value {
			forget(member)
		}
	case []any:
		for _, item := range value {
			forget(item)
		}
	}
}

// TestCorpusInOtherForms holds that the plugin makes the same of a case with other line ends, as JSON, and in a list.
func TestCorpusInOtherForms(t *testing.T) {
	for _, c := range readCorpus(t) {
		t.Run(c.Name, func(t *testing.T) {
			args := append([]string{"inject", "-n", inNamespace, "-f", "-"}, c.Flags...)
			out, _, err := call(t, c.Text, args...)
			if err != nil {
				t.Skip("TestCorpus has its errors")
			}
			dos := strings.NewReplacer("\n", "\r\n")
			if got, stderr, err := call(t, dos.Replace(c.Text), args...); err != nil || got != dos.Replace(out) {
				t.Errorf("with carriage returns: %v %s\n%s", err, stderr, gocmp.Diff(dos.Replace(out), got))
			}
			want, err := corpus.Objects(out)
			if err != nil {
				t.Fatal(err)
			}
			objects, err := corpus.Objects(c.Text)
			if err != nil {
				t.Fatal(err)
			}
			var stream, list bytes.Buffer
			for i := range objects {
				if i > 0 {
					list.WriteString(",\n")
				}
				stream.Write(marshal(t, &objects[i]))
				list.Write(marshal(t, &objects[i]))
			}
			for form, text := range map[string]string{
				"as JSON": stream.String(), "in a list": `{"apiVersion":"v1","kind":"List","items":[` + list.String() + "]}",
			} {
				out, stderr, err := call(t, text, args...)
				if err != nil {
					t.Errorf("%s: %v, %s", form, err, stderr)
					continue
				}
				got, err := corpus.Objects(out)
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-as it is +%s):\n%s", form, form, diff)
				}
			}
		})
	}
}

// holders are kinds that hold a template, and where.
var holders = []struct {
	apiVersion, kind string
	path             []string
}{
	{"v1", "ReplicationController", []string{"spec", "template"}},
	{"v1", "PodTemplate", []string{"template"}},
	{"apps/v1", "Deployment", []string{"spec", "template"}},
	{"apps/v1", "StatefulSet", []string{"spec", "template"}},
	{"apps/v1", "DaemonSet", []string{"spec", "template"}},
	{"apps/v1", "ReplicaSet", []string{"spec", "template"}},
	{"batch/v1", "Job", []string{"spec", "template"}},
	{"batch/v1", "CronJob", []string{"spec", "jobTemplate", "spec", "template"}},
	{"argoproj.io/v1alpha1", "Rollout", []string{"spec", "template"}},
}

// TestCorpusInOtherKinds holds that a template is judged and injected as the pod would be, whichever kind holds it. Each pod is tried
// in three kinds, and the pods after one another in others.
func TestCorpusInOtherKinds(t *testing.T) {
	tried := 0
	for _, c := range readCorpus(t) {
		objects, err := corpus.Objects(c.Text)
		if err != nil || len(objects) != 1 || objects[0].GetKind() != "Pod" {
			continue
		}
		outcome, words := c.Outcome(corpus.Everyone, "", "")
		if outcome == corpus.Unread || slices.Contains(words, string(injector.ReasonAlreadyInjected)) { // by the pod's name
			continue
		}
		tried++
		lacking := slices.ContainsFunc(words, func(words string) bool { return strings.Contains(words, "Required value") })
		for i := tried % 3; i < len(holders); i += 3 {
			holder := &holders[i]
			if holder.kind == "Rollout" && lacking {
				continue // is a warning there: its controller may add what is missing
			}
			t.Run(c.Name+"/"+holder.kind, func(t *testing.T) {
				pod := objects[0].DeepCopy().Object
				held := corpus.Object{Unstructured: unstructured.Unstructured{Object: map[string]any{
					"apiVersion": holder.apiVersion, "kind": holder.kind, "metadata": map[string]any{"name": "web"},
				}}}
				template := map[string]any{"metadata": pod["metadata"], "spec": pod["spec"]}
				if err := unstructured.SetNestedMap(held.Object, template, holder.path...); err != nil {
					t.Fatal(err)
				}
				args := append([]string{"inject", "-n", inNamespace, "-f", "-"}, c.Flags...)
				out, stderr, err := call(t, string(marshal(t, &held)), args...)
				if (err != nil) != (outcome == corpus.Denied) {
					t.Fatalf("%v: %s", err, stderr)
				}
				var written *corpus.Object
				if err == nil {
					read, err := corpus.Objects(out)
					if err != nil || len(read) != 1 {
						t.Fatalf("%d objects: %v", len(read), err)
					}
					written = &read[0]
				}
				r := newReviews(t, &c, nil)
				r.check(t, &held, written)
				checkWords(t, "the warnings", c.Warnings(corpus.Workloads, corpus.Pods), r.warnings)
			})
		}
	}
	if tried < 150 {
		t.Errorf("%d pods were tried", tried)
	}
}
