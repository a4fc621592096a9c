package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/corpus"
	"github.com/agentlet/agentlet/injector/injectortest"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/dryrun"
)

// TestCorpus creates each object of the corpus on the real API server, as a dry run, and a pod of each template: in a namespace that
// is opted in, and for comparison in one that is not. What the API server takes without us it takes with us, changed by nothing but
// the injected parts, or it refuses it with the webhook's errors. What the plugin's inject makes of it it takes as well.
func TestCorpus(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	r := &corpusRun{S: s, skipped: map[string]int{}}
	var cases []corpus.Case
	s.Given("the corpus, the kinds of other systems, and namespaces with and without us", func() {
		var err error
		cases, err = corpus.Read()
		s.Must(err)
		useCustomKinds(s)
		r.plain = r.namespace("plain", nil)
		r.strict = r.namespace("strict", map[string]string{contract.InjectLabel: contract.InjectEnabled, enforce: "restricted"})
		r.strictPlain = r.namespace("strict-plain", map[string]string{enforce: "restricted"})
		r.connect()
		for _, namespace := range []string{s.Namespace, r.strict} {
			s.Must(dryrun.Until(s.Ctx, time.Minute, s.Kube, namespace, nil))
		}
		s.Eventually("a refusal of a workload", func(ctx context.Context) (bool, error) { // known by a watch of its own
			wrong, err := corpus.Objects(everyKindOf(s, s.Sample(s.Annotations("gate", "ajar")), "Deployment"))
			s.Must(err)
			_, _, err = r.create(ctx, s.Namespace, &wrong[0])
			return err != nil, errors.New("it was accepted")
		})
	})
	s.Then("the API server and the webhooks make of each what is expected", func() {
		group := errgroup.Group{}
		group.SetLimit(8)
		for i := range cases {
			group.Go(func() error {
				r.check(&cases[i])
				return nil
			})
		}
		s.Must(group.Wait())
	})
	s.Logf("%d objects and pods created; not tried: %v", r.tried, r.skipped)
	if r.tried < 300 || r.restricted < 5 {
		s.Errorf("%d objects were tried, %d of them by the restricted standard", r.tried, r.restricted)
	}
}

// enforce is the label by which a namespace enforces a Pod Security Standard.
const enforce = "pod-security.kubernetes.io/enforce"

// corpusRun creates objects in the scenario's namespace, which is opted in, and in others.
type corpusRun struct {
	*scenario.S
	client dynamic.Interface
	mapper meta.RESTMapper
	plugin *injector.Injector
	// plain is not opted in. Those that enforce the restricted standard are strict, which is opted in, and strictPlain.
	plain, strict, strictPlain string

	mutex             sync.Mutex
	tried, restricted int
	skipped           map[string]int
}

// namespace creates a namespace for the run.
func (r *corpusRun) namespace(suffix string, labels map[string]string) string {
	r.Helper()
	name := r.Namespace + "-" + suffix
	_, err := r.Kube.CoreV1().Namespaces().Create(r.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	r.Must(err)
	r.Afterwards(time.Minute, func(ctx context.Context) {
		if err := r.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			r.Errorf("remove namespace: %v", err)
		}
	})
	r.Eventually("the default service account", func(ctx context.Context) (bool, error) {
		_, err := r.Kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	return name
}

// connect makes the client, and reads which kinds there are.
func (r *corpusRun) connect() {
	r.Helper()
	config, err := r.Cluster.RESTConfig()
	r.Must(err)
	config.WarningHandlerWithContext = warnings{}
	r.client, err = dynamic.NewForConfig(config)
	r.Must(err)
	r.Eventually("the kinds of other systems", func(context.Context) (bool, error) {
		served, err := restmapper.GetAPIGroupResources(r.Kube.Discovery())
		if err != nil {
			return false, err
		}
		r.mapper = restmapper.NewDiscoveryRESTMapper(served)
		_, err = r.mapper.RESTMappings(schema.GroupKind{Group: "apps.openshift.io", Kind: "DeploymentConfig"}) // the last of them
		return err == nil, err
	})
	r.plugin, err = injector.New(injector.Config{Image: "agentlet/agentlet:dev", ConsulPort: 8500, ConsulScheme: "http"})
	r.Must(err)
}

// warnings gathers the warnings of a request, in the list that its context holds.
type warnings struct{}

type warningsKey struct{}

func (warnings) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if list, ok := ctx.Value(warningsKey{}).(*[]string); ok {
		*list = append(*list, text)
	}
}

// create creates an object in a namespace, as a dry run.
func (r *corpusRun) create(ctx context.Context, namespace string, o *corpus.Object) (made *unstructured.Unstructured, told []string, err error) {
	kind := o.GroupVersionKind()
	mapping, err := r.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, nil, err
	}
	copied := o.DeepCopy()
	copied.SetNamespace(namespace)
	if copied.GetName() == "" && copied.GetGenerateName() == "" {
		copied.SetGenerateName("made-")
	}
	made, err = r.client.Resource(mapping.Resource).Namespace(namespace).
		Create(context.WithValue(ctx, warningsKey{}, &told), copied, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return made, told, err
}

// check has the objects of a case created, as they are and as inject writes them.
func (r *corpusRun) check(c *corpus.Case) {
	if len(c.Flags) > 0 {
		r.skip("of another configuration")
		return
	}
	objects, err := corpus.Objects(c.Text)
	if err != nil {
		r.skip("no manifests")
		return
	}
	if slices.ContainsFunc(objects, func(o corpus.Object) bool { return o.GetKind() == "Namespace" }) {
		r.skip("of another namespace")
		return
	}
	written := r.inject(c)
	var ours []string
	all := true // were sent to a webhook
	for i := range objects {
		o := &objects[i]
		told, ok := r.checkObject(c, o, o)
		ours, all = append(ours, told...), all && ok && (o.GetKind() == "Pod" || reviewed[o.GroupVersionKind().GroupKind().String()])
		if pod, own, err := o.Pod(); ok && err == nil && pod != nil && !own {
			r.checkObject(c, pod, o)
		}
		if ok && written != nil {
			r.checkWritten(c, &written[i])
		}
	}
	missing, unexpected := corpus.Unmatched(c.Warnings(corpus.Pods, corpus.Workloads, corpus.API), ours)
	if all && len(missing) > 0 || len(unexpected) > 0 {
		r.Errorf("%s: no warning %q, and nobody expects %q", c.Name, missing, unexpected)
	}
}

// reviewed are the kinds that the chart has the webhook for workloads review.
var reviewed = map[string]bool{
	"Deployment.apps": true, "StatefulSet.apps": true, "DaemonSet.apps": true, "ReplicaSet.apps": true, "Job.batch": true, "CronJob.batch": true,
	"Rollout.argoproj.io": true, "CloneSet.apps.kruise.io": true, "Service.serving.knative.dev": true, "Service": true,
}

// inject returns what the plugin writes; nil where it finds errors.
func (r *corpusRun) inject(c *corpus.Case) []corpus.Object {
	file, wrong := manifests.Parse("corpus", []byte(c.Text))
	results := file.Judge(r.plugin, r.Namespace, nil)
	if len(wrong) > 0 || slices.ContainsFunc(results, func(j manifests.Result) bool { return len(j.Errors) > 0 }) {
		return nil
	}
	out, _, err := file.Injected(results)
	if err != nil {
		r.Errorf("%s: inject: %v", c.Name, err)
		return nil
	}
	objects, err := corpus.Objects(string(out))
	if err != nil {
		r.Errorf("%s: read what inject writes: %v", c.Name, err)
		return nil
	}
	return objects
}

// checkObject creates an object of a case, or a pod of its template, in both namespaces. It returns the warnings that are ours; ok is
// false where the API server doesn't take it without us.
func (r *corpusRun) checkObject(c *corpus.Case, o, of *corpus.Object) (ours []string, ok bool) {
	kind, name := of.GetKind(), of.GetName()
	what := fmt.Sprintf("%s: %s of %s %s", c.Name, o.GetKind(), kind, name)
	before, told, err := r.create(r.Ctx, r.plain, o)
	if meta.IsNoMatchError(err) {
		r.skip(o.GroupVersionKind().GroupKind().String() + " " + o.GroupVersionKind().Version)
		return nil, false
	}
	r.count(&r.tried)
	switch outcome, words := c.Outcome(corpus.API, kind, name); {
	case outcome == corpus.Accepted: // it is read otherwise than written
		return nil, false
	case outcome == corpus.Unread, outcome == corpus.Refused:
		if outcome == corpus.Unread {
			words = nil // those of the plugin
		}
		if err == nil || !containsAll(err.Error(), words) {
			r.Errorf("%s: want it refused with %q, got %v", what, words, err)
		}
		return nil, false
	case err != nil && o != of: // its controller makes it complete, as that of a StatefulSet adds the volumes
		r.skip("pods that only a controller completes")
		return nil, false
	case err != nil:
		r.Errorf("%s: refused without us: %v", what, err)
		return nil, false
	}
	after, all, err := r.create(r.Ctx, r.Namespace, o)
	ours = slices.DeleteFunc(all, func(text string) bool { return slices.Contains(told, text) })
	who, webhook, sent := corpus.Workloads, "workloads.agentlet.dev", reviewed[o.GroupVersionKind().GroupKind().String()]
	if o.GetKind() == "Pod" {
		who, webhook, sent = corpus.Pods, "inject.agentlet.dev", true
	}
	outcome, words := c.Outcome(who, kind, name)
	denied := sent && outcome == corpus.Denied
	if denied != (err != nil) || denied && !containsAll(err.Error(), append(words, fmt.Sprintf("admission webhook %q denied the request", webhook))) {
		r.Errorf("%s: want it %s %q, got %v", what, outcome, words, err)
	}
	if err == nil && who == corpus.Pods {
		r.checkPod(what, before, after, outcome == corpus.Injected)
		r.checkStrict(what, o, outcome == corpus.Injected)
	} else if err == nil {
		r.checkSame(what, before, after)
	}
	return ours, true
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(text, word) })
}

// checkPod compares a pod as the API server makes it with and without us.
func (r *corpusRun) checkPod(what string, before, after *unstructured.Unstructured, injected bool) {
	var pod corev1.Pod
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(after.Object, &pod); err != nil {
		r.Errorf("%s: %v", what, err)
		return
	}
	if !injected {
		r.checkSame(what, before, after)
		return
	}
	if !scenario.Injected(&pod) {
		r.Errorf("%s: not injected", what)
	}
	was, _, _ := unstructured.NestedString(before.Object, "status", "qosClass")
	if class := string(pod.Status.QOSClass); class != was && was != string(corev1.PodQOSBestEffort) {
		r.Errorf("%s: its QoS class was %s and is %s", what, was, class)
	}
	if wrong := injectortest.NotAdded(r.settled(before), r.settled(after)); wrong != "" {
		r.Errorf("%s: %s", what, wrong)
	}
}

// checkSame checks that an object is the same with and without us.
func (r *corpusRun) checkSame(what string, before, after *unstructured.Unstructured) {
	if a, b := r.settled(before), r.settled(after); string(a) != string(b) {
		r.Errorf("%s: without us\n%s\nwith us\n%s", what, a, b)
	}
}

// settled is an object's JSON without what differs from one creation to the next.
func (r *corpusRun) settled(o *unstructured.Unstructured) []byte {
	object := o.DeepCopy().Object
	delete(object, "status")
	metadata, _ := object["metadata"].(map[string]any)
	for _, key := range []string{"uid", "creationTimestamp", "namespace", "managedFields", "resourceVersion", "labels"} {
		delete(metadata, key) // a Job's labels hold its UID
	}
	if metadata["generateName"] != nil {
		delete(metadata, "name")
	}
	spec, _ := object["spec"].(map[string]any)
	for _, key := range []string{"selector", "clusterIP", "clusterIPs"} {
		delete(spec, key)
	}
	unlabelled(spec["template"])
	dropToken(spec, "volumes")
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := spec[list].([]any)
		for _, container := range containers {
			if container, ok := container.(map[string]any); ok {
				dropToken(container, "volumeMounts")
			}
		}
	}
	text, err := json.Marshal(object)
	if err != nil {
		r.Errorf("encode: %v", err)
	}
	return text
}

func unlabelled(template any) {
	if template, ok := template.(map[string]any); ok {
		if metadata, ok := template["metadata"].(map[string]any); ok {
			delete(metadata, "labels")
		}
	}
}

// dropToken removes the volume, or the mount, of the service account's token, whose name is drawn for each pod.
func dropToken(from map[string]any, key string) {
	items, ok := from[key].([]any)
	if !ok {
		return
	}
	from[key] = slices.DeleteFunc(items, func(item any) bool {
		of, _ := item.(map[string]any)
		name, _ := of["name"].(string)
		return strings.HasPrefix(name, "kube-api-access-")
	})
}

// checkStrict checks that a pod that the restricted standard allows is allowed with us, too.
func (r *corpusRun) checkStrict(what string, o *corpus.Object, injected bool) {
	text, err := o.JSON()
	if err != nil || !strings.Contains(string(text), `"runAsNonRoot":true`) {
		return
	}
	if _, _, err := r.create(r.Ctx, r.strictPlain, o); err != nil {
		return
	}
	r.count(&r.restricted)
	made, _, err := r.create(r.Ctx, r.strict, o)
	if err != nil {
		r.Errorf("%s: by the restricted standard: %v", what, err)
		return
	}
	gates, _, _ := unstructured.NestedSlice(made.Object, "spec", "readinessGates")
	if (len(gates) > 0) != injected {
		r.Errorf("%s: by the restricted standard it has %d gates", what, len(gates))
	}
}

// checkWritten creates what inject writes, without the webhook and with it, which has nothing left to do.
func (r *corpusRun) checkWritten(c *corpus.Case, o *corpus.Object) {
	what := fmt.Sprintf("%s: %s %s as inject writes it", c.Name, o.GetKind(), o.GetName())
	before, _, err := r.create(r.Ctx, r.plain, o)
	if err != nil {
		r.Errorf("%s: %v", what, err)
		return
	}
	r.count(&r.tried)
	after, _, err := r.create(r.Ctx, r.Namespace, o)
	if err != nil {
		r.Errorf("%s, with the webhook: %v", what, err)
		return
	}
	r.checkSame(what, before, after)
}

func (r *corpusRun) count(n *int) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	*n++
}

// skip notes what is not tried.
func (r *corpusRun) skip(what string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.skipped[what]++
}
