package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/workload"
)

// Decider judges one pod; an *injector.Injector is one.
type Decider interface {
	Decide(request injector.Request) injector.Decision
}

// Result is what the webhook would say to one pod.
type Result struct {
	*Pod
	injector.Decision
	// Errors of a denial and warnings, with their places and in the order of their lines.
	Errors, Warnings []Diagnostic

	document *document
}

// Judge has every pod of the file judged, in the file's order. namespace is that of objects which name none.
func (f *File) Judge(decider Decider, namespace string) []Result {
	var judgements []Result
	for _, d := range f.documents {
		for i := range d.pods {
			pod := &d.pods[i]
			in := pod.Namespace
			if in == "" {
				in = namespace
			}
			j := Result{Pod: pod, document: d, Decision: decider.Decide(injector.Request{
				Namespace: in, Pod: pod.judged(), Nonce: nonce(in, pod),
			})}
			for _, err := range j.Decision.Errors {
				j.Errors = append(j.Errors, f.diagnostic(&j, err))
			}
			for _, warning := range j.Decision.Warnings {
				j.Warnings = append(j.Warnings, Diagnostic{
					File: f.Name, Line: d.lineOf(pod.path, warning.Field), Object: pod.Object(), Message: warning.Message,
				})
			}
			for _, notes := range [][]Diagnostic{j.Errors, j.Warnings} {
				slices.SortStableFunc(notes, func(a, b Diagnostic) int { return a.Line - b.Line })
			}
			judgements = append(judgements, j)
		}
	}
	return judgements
}

// judged is the pod as the webhook would meet it. The pods of a template have names of their own.
func (p *Pod) judged() *corev1.Pod {
	if p.Kind == "Pod" {
		return p.Pod
	}
	unnamed := *p.Pod
	unnamed.Name, unnamed.GenerateName = "", ""
	return &unnamed
}

// diagnostic says an error of the injector's as one of the object in which the pod is.
func (f *File) diagnostic(j *Result, err *field.Error) Diagnostic {
	message := workload.AtPath(j.path, err).Error()
	return Diagnostic{File: f.Name, Line: j.document.lineOf(j.path, err.Field), Object: j.Object(), Message: message}
}

// nonce ties the drain hooks to the agentlet beside them. The webhook makes a random one for each pod. Here it follows
// from the object's name alone: the same manifest has to give the same output, or each run would roll every workload
// out anew, and a template shares its nonce among its pods in any case. That is enough for what a nonce is for, to tell
// a hook that an address led to the wrong pod; the hook it stands in starts nothing by itself.
func nonce(namespace string, pod *Pod) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{namespace, pod.Kind, pod.Name}, "\x00")))
	return hex.EncodeToString(sum[:])[:16]
}
