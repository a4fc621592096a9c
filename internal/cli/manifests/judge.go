package manifests

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/injector/workload"
)

// Decider judges one pod; an *injector.Injector is one. It is safe for concurrent use.
type Decider interface {
	Decide(request injector.Request) injector.Decision
}

// Result is what the webhook would say to one pod.
type Result struct {
	*Pod
	injector.Decision
	// Errors of a denial and warnings, with their places and in the order of their lines.
	Errors, Warnings []Diagnostic
	// Namespace is the pod's, where it is in the files, else nil.
	Namespace *Namespace

	document *document
}

// Namespace is an object of this kind, in a file.
type Namespace struct {
	*Object
	// File in which it is.
	File string

	document *document
}

// Label is the value of one of its labels.
func (n *Namespace) Label(key string) (value string, there bool) {
	value, there = n.labels[key]
	return value, there
}

// Annotated reports whether it has an annotation.
func (n *Namespace) Annotated(key string) bool {
	_, there := n.annotations[key]
	return there
}

// tells reports whether a warning about the pod's namespace is one of its object's, for which Warnings has it once.
func (n *Namespace) tells(field string) bool {
	path := steps(field)
	return n != nil && len(path) > 0 && n.Annotated(path[len(path)-1])
}

// Namespaces are those in files, by their names. Of two with one name the last is what the cluster gets.
func Namespaces(files []*File) map[string]*Namespace {
	found := map[string]*Namespace{}
	for _, f := range files {
		for _, d := range f.documents {
			for i := range d.objects {
				if o := &d.objects[i]; o.isNamespace() {
					found[o.Name] = &Namespace{o, f.Name, d}
				}
			}
		}
	}
	return found
}

// PodNamespaces are the names of the namespaces of the pods in files, each once. namespace is that of objects which name none.
func PodNamespaces(files []*File, namespace string) (names []string) {
	for _, f := range files {
		for _, d := range f.documents {
			for i := range d.pods {
				names = append(names, cmp.Or(d.pods[i].Namespace, namespace))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Judge has every pod of the file judged, several at once, in the file's order. namespace is that of objects which name none;
// namespaces are those that are known from files.
func (f *File) Judge(decider Decider, namespace string, namespaces map[string]*Namespace) []Result {
	judgements := make([][]Result, len(f.documents))
	inParallel(len(f.documents), func(i int) {
		d := f.documents[i]
		for j := range d.pods {
			judgements[i] = append(judgements[i], f.judge(d, &d.pods[j], decider, namespace, namespaces))
		}
	})
	return slices.Concat(judgements...)
}

func (f *File) judge(d *document, pod *Pod, decider Decider, namespace string, namespaces map[string]*Namespace) Result {
	in := cmp.Or(pod.Namespace, namespace)
	request := injector.Request{Namespace: in, Pod: pod.judged(), Nonce: nonce(in, pod)}
	known := namespaces[in]
	if known != nil {
		request.NamespaceAnnotations = injector.NamespaceAnnotations(known.annotations)
		request.NamespaceLabels = injector.NamespaceLabels(known.labels)
	}
	j := Result{Pod: pod, Namespace: known, document: d, Decision: decider.Decide(request)}
	for _, err := range j.Decision.Errors {
		j.Errors = append(j.Errors, f.diagnostic(&j, err))
	}
	warnings := j.Decision.Warnings
	if j.Reason == injector.ReasonNotAnnotated {
		if unread, ok := dialect.Unread(pod.Pod.Annotations); ok {
			warnings = append(slices.Clip(warnings), unread)
		}
	}
	for _, warning := range warnings {
		at := warning.Field
		if of, ok := registration.InNamespace(at); ok {
			if known.tells(of) {
				continue
			}
			at = ""
		}
		j.Warnings = append(j.Warnings, Diagnostic{
			File: f.Name, Line: d.lineOf(pod.path, at), Object: pod.String(), Message: warning.Message,
		})
	}
	j.Warnings = slices.Concat(j.Warnings, f.misplaced(d, &pod.Object), f.stray(d, pod))
	for _, notes := range [][]Diagnostic{j.Errors, j.Warnings} {
		slices.SortStableFunc(notes, byLine)
	}
	return j
}

// Warnings are about objects without a pod: annotations that have no effect there, and templates at places that nobody looks at.
// defaults are the installation's.
func (f *File) Warnings(defaults registration.Defaults) (warnings []Diagnostic) {
	for _, d := range f.documents {
		for i := range d.objects {
			o := &d.objects[i]
			if o.holdsPod {
				continue
			}
			warnings = append(warnings, f.misplaced(d, o)...)
			if o.isNamespace() {
				warnings = append(warnings, f.ofNamespace(d, o, defaults)...)
			}
			if steps := templateIn(at(d.root, o.path)); steps != nil {
				warnings = append(warnings, Diagnostic{
					File: f.Name, Line: d.lineOf(append(slices.Clip(o.path), steps...), ""), Object: o.String(), Message: o.unread(steps),
				})
			}
		}
	}
	return warnings
}

// unread says that an object's template, or its containers where it has them itself, are not looked at.
func (o *Object) unread(steps []string) string {
	known := strings.Join(workload.Places(), ", ")
	if len(steps) == 0 {
		return fmt.Sprintf("not looked at: it has spec.containers as a Pod has, and is of apiVersion %q and kind %q; "+
			"agentlet knows templates at %s", o.APIVersion, o.Kind, known)
	}
	return fmt.Sprintf("not looked at: it has a pod template at %s; agentlet knows those at %s", fieldName(steps), known)
}

// Kinds are those of the file's objects, each once, in the order of their names.
func (f *File) Kinds() (kinds []string) {
	for _, d := range f.documents {
		for i := range d.objects {
			kinds = append(kinds, d.objects[i].Kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

func (f *File) misplaced(d *document, o *Object) (warnings []Diagnostic) {
	for _, w := range o.misplaced {
		warnings = append(warnings, Diagnostic{File: f.Name, Line: d.lineOf(o.path, w.Field), Object: o.String(), Message: w.Message})
	}
	return warnings
}

// ofNamespace are warnings of a namespace's annotations, in the order of their lines.
func (f *File) ofNamespace(d *document, o *Object, defaults registration.Defaults) (warnings []Diagnostic) {
	for _, w := range registration.LintNamespace(o.annotations, defaults) {
		at, _ := registration.InNamespace(w.Field)
		warnings = append(warnings, Diagnostic{File: f.Name, Line: d.lineOf(o.path, at), Object: o.String(), Message: w.Message})
	}
	slices.SortStableFunc(warnings, byLine)
	return warnings
}

// stray are warnings of our annotations elsewhere in an object: on a CronJob's jobTemplate, or in a specification.
func (f *File) stray(d *document, pod *Pod) (warnings []Diagnostic) {
	right := append(slices.Clip(pod.path), "metadata", "annotations")
	of := append(slices.Clip(pod.Object.path), "metadata", "annotations")
	for _, path := range annotationsIn(at(d.root, pod.Object.path), slices.Clip(pod.Object.path)) {
		if slices.Equal(path, right) || slices.Equal(path, of) {
			continue // which are judged already
		}
		found := map[string]string{}
		_ = at(d.root, path).Decode(&found) // values of other types are texts, too
		place, reads := fieldName(path[len(pod.Object.path):]), fieldName(right[len(pod.Object.path):])
		for _, w := range registration.Misplaced("at "+place, reads, nil, found, pod.Pod.Annotations) {
			_, key, _ := strings.Cut(w.Field, "[")
			line := d.lineOf(append(slices.Clip(path), strings.TrimSuffix(key, "]")), "")
			warnings = append(warnings, Diagnostic{File: f.Name, Line: line, Object: pod.String(), Message: w.Message})
		}
	}
	return warnings
}

// annotationsIn are the paths of the mappings below a node that are called annotations.
func annotationsIn(node *yaml.Node, path []string) (found [][]string) {
	if node == nil {
		return nil
	}
	for step, child := range children(node) {
		at := append(slices.Clip(path), step)
		if step == "annotations" && child.Kind == yaml.MappingNode {
			found = append(found, at)
		}
		found = append(found, annotationsIn(child, at)...)
	}
	return found
}

// children yields the values in a list or a mapping, each with its index or key.
func children(node *yaml.Node) iter.Seq2[string, *yaml.Node] {
	return func(yield func(string, *yaml.Node) bool) {
		for i, child := range node.Content {
			step := strconv.Itoa(i)
			if node.Kind == yaml.MappingNode {
				if i%2 == 0 {
					continue
				}
				step = node.Content[i-1].Value
			}
			if !yield(step, child) {
				return
			}
		}
	}
}

// templateIn is the path of the first value in an object that looks like a pod or the template of one; nil where there is none.
func templateIn(node *yaml.Node) []string {
	if node = content(node); node == nil {
		return nil
	}
	if list := at(node, []string{"spec", "containers"}); list != nil && list.Kind == yaml.SequenceNode {
		return []string{}
	}
	for step, child := range children(node) {
		if child.Kind == yaml.AliasNode { // what it stands for has its own place
			continue
		}
		if found := templateIn(child); found != nil {
			return append([]string{step}, found...)
		}
	}
	return nil
}

// judged is the pod as the webhook would meet it. The pods of a template have names of their own, and a pod without an agentlet
// may yet get another one, by kustomize for instance: nothing is written down of it.
func (p *Pod) judged() *corev1.Pod {
	if p.Kind == "Pod" && registration.Agentlet(p.Pod) != nil {
		return p.Pod
	}
	unnamed := *p.Pod
	unnamed.Name, unnamed.GenerateName = "", ""
	return &unnamed
}

// diagnostic says an error of the injector's as one of the object in which the pod is.
func (f *File) diagnostic(j *Result, err *field.Error) Diagnostic {
	if of, ok := registration.InNamespace(err.Field); ok && j.Namespace != nil {
		n := j.Namespace
		return Diagnostic{File: n.File, Line: n.document.lineOf(n.path, of), Object: j.String(), Message: err.Error()}
	}
	message := workload.AtPath(j.path, err).Error()
	return Diagnostic{File: f.Name, Line: j.document.lineOf(j.path, err.Field), Object: j.String(), Message: message}
}

// nonce ties the drain hooks to the agentlet beside them. The webhook makes a random one for each pod. Here it follows
// from the object's name alone: the same manifest has to give the same output, or each run would roll every workload
// out anew, and a template shares its nonce among its pods in any case. That is enough for what a nonce is for, to tell
// a hook that an address led to the wrong pod; the hook it stands in starts nothing by itself.
func nonce(namespace string, pod *Pod) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{namespace, pod.Kind, pod.Name}, "\x00")))
	return hex.EncodeToString(sum[:])[:16]
}
