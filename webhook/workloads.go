package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/workload"
)

// workloads reviews objects with a pod template. People see the errors when they apply the object; without it only a
// controller would see them, later, for each pod. It never stops a controller: objects with a controller, objects that are
// being deleted and unchanged templates are accepted unseen, and of a changed template only new errors count.
type workloads struct{ podReviewer }

func (w *workloads) review(ctx context.Context, body []byte, found *result) (*admissionv1.AdmissionResponse, error) {
	var whole review[workload.Object, workload.Object]
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &whole); err != nil {
		return nil, &requestError{http.StatusBadRequest, fmt.Errorf("decode AdmissionReview: %w", err)}
	}
	in, err := checkEnvelope(&whole)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	found.setRequest(in)
	templates, reason, err := w.open(in, &whole.Request.Object, &whole.Request.OldObject, found)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	if reason != "" {
		found.outcome, found.reason = injector.Skipped, reason
		return respond(in.UID, injector.Decision{Outcome: injector.Skipped, Warnings: templates.misplaced})
	}
	return w.compare(ctx, in, templates, found)
}

// tooLarge leaves a workload that is too large to decode to the failurePolicy, which is Ignore.
func (w *workloads) tooLarge(_ []byte, _ *result, why *tooLargeError) (*admissionv1.AdmissionResponse, error) {
	return nil, &requestError{statusTold, why}
}

// templates of one workload: the new one, the old one (nil at creation), and their path in the object.
type templates struct {
	new, old []byte
	path     []string
	// custom: the kind is not one of Kubernetes' own, and its controller may complete the template before it makes pods.
	custom bool
	// misplaced are warnings of annotations that are the object's and should be the template's.
	misplaced []registration.Warning
}

// open finds the templates, or the reason for which the workload is not reviewed.
func (w *workloads) open(in *request, o, old *workload.Object, found *result) (t templates, skip injector.Reason, err error) {
	if in.SubResource != "" || (in.Operation != admissionv1.Create && in.Operation != admissionv1.Update) {
		return t, reasonNotAWorkload, nil
	}
	if found.object == "" {
		found.object = cut(o.Metadata.GenerateName, maxName)
	}
	path, ok := o.Path()
	switch {
	case ok && len(path) == 0:
		return t, reasonNotAWorkload, nil
	case in.Namespace == "":
		return t, "", errors.New("the request names no namespace")
	case o.Terminating():
		return t, reasonTerminating, nil
	case o.Controlled():
		return t, reasonControlled, nil
	case !ok:
		t.misplaced = misplaced(o, old, false)
		return t, reasonNotAWorkload, nil
	}
	t.path = path
	if t.new, err = o.TemplateAt(path); err != nil {
		return t, "", fmt.Errorf("decode workload: %w", err)
	}
	_, known := workload.Path(o.APIVersion, o.Kind)
	t.custom = !known
	if in.Operation == admissionv1.Update {
		if t.old, err = old.TemplateAt(path); err != nil && known { // an object of another kind may have got it only now
			return t, "", fmt.Errorf("decode the workload as it is: %w", err)
		}
	}
	unchanged := t.old != nil && bytes.Equal(t.new, t.old) // both come from the same encoder
	t.misplaced = misplaced(o, old, !unchanged)
	if unchanged {
		return t, reasonUnchanged, nil
	}
	return t, "", nil
}

// misplaced warns of annotations that have no effect on an object. Whoever updates something else in it is not told again.
func misplaced(o, old *workload.Object, changed bool) []registration.Warning {
	warnings := o.Misplaced()
	if !changed && slices.Equal(warnings, old.Misplaced()) {
		return nil
	}
	return warnings
}

// compare reviews both templates. It denies for each error that the old template doesn't have. What is missing in an object of
// another than Kubernetes' own kinds is a warning: its controller may add it, as Knative's declares the container's port.
func (w *workloads) compare(
	ctx context.Context,
	in *request,
	t templates,
	found *result,
) (*admissionv1.AdmissionResponse, error) {
	now, err := w.errorsIn(ctx, in, t.new, found)
	if err != nil {
		return nil, err
	}
	found.outcome, found.reason = accepted, reasonValid
	if now.Outcome == injector.Skipped {
		found.reason = now.Reason
	}
	answer := injector.Decision{Outcome: accepted, Warnings: slices.Concat(t.misplaced, now.Warnings)}
	if now.Outcome == injector.Denied {
		before := map[string]int{}
		if t.old != nil {
			old, err := w.errorsIn(ctx, in, t.old, found)
			if err != nil {
				return nil, err
			}
			for _, err := range old.Errors {
				before[errorKey(err)]++
			}
		}
		for _, err := range now.Errors {
			if t.custom && err.Type == field.ErrorTypeRequired {
				answer.Warnings = append(answer.Warnings, registration.Warning{
					Field: err.Field, Message: "as it stands here its pods would be refused: " + workload.AtPath(t.path, err).Error(),
				})
				continue
			}
			if key := errorKey(err); before[key] > 0 {
				before[key]--
				answer.Warnings = append(answer.Warnings, registration.Warning{
					Field: err.Field, Message: "its pods will be refused, as before: " + workload.AtPath(t.path, err).Error(),
				})
				continue
			}
			answer.Outcome, answer.Reason = injector.Denied, now.Reason
			answer.Errors = append(answer.Errors, workload.AtPath(t.path, err))
		}
		found.outcome, found.reason = accepted, reasonNothingNew
		if answer.Outcome == injector.Denied {
			found.outcome, found.reason = injector.Denied, now.Reason
		}
	}
	return respond(in.UID, answer)
}

// errorsIn is the decision on a pod of the template.
func (w *workloads) errorsIn(ctx context.Context, in *request, template []byte, found *result) (injector.Decision, error) {
	pod, err := workload.Pod(template)
	if err != nil {
		return injector.Decision{}, &requestError{http.StatusBadRequest, fmt.Errorf("decode pod template: %w", err)}
	}
	return w.decide(ctx, in, pod, found)
}

// index matches the index of a list in a field's path.
var index = regexp.MustCompile(`\[\d+\]`)

// errorKey is the same for an error that has only moved in its list, because an item was inserted before it.
func errorKey(err *field.Error) string {
	return index.ReplaceAllString(err.Field, "[]") + "\x00" + err.ErrorBody()
}
