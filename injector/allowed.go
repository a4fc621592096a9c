package injector

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// everyName is the glob that allows all, which is what an agentlet takes for granted.
const everyName = "*"

// allowed are globs of service names, and where they come from.
type allowed struct {
	globs  []string
	source string
}

// allowed are the globs in force for the request's namespace: its annotation's, or else the installation's.
func (i *Injector) allowed(request *Request) (allowed, *field.Error) {
	text, source := i.config.AllowedServices, "the chart's allowedServices"
	if request.AllowedServices != nil {
		text, source = *request.AllowedServices, fmt.Sprintf("annotation %s of namespace %s", contract.AllowedServices, request.Namespace)
	} else if text == "" {
		text = everyName
	}
	globs, err := registration.ParseAllowed(text)
	if err != nil {
		// The path is the namespace's: it is nothing that the pod's author can mend.
		path := field.NewPath("namespace", "metadata", "annotations").Key(contract.AllowedServices)
		return allowed{}, field.Invalid(path, text, "must be comma-separated globs of service names, such as web,shop-*: "+err.Error())
	}
	return allowed{globs: globs, source: source}, nil
}

// restricts reports whether there is a name that the globs don't allow.
func restricts(globs []string) bool { return !slices.Contains(globs, everyName) }
