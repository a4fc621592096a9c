package injector

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// globKind is one of the kinds of what a namespace's pods may register.
type globKind struct {
	annotation, chartValue string
	ofConfig               func(*Config) string
	parse                  func(text, source string) (registration.Globs, error)
	of                     func(*registration.Allowed) *registration.Globs
}

var globKinds = [...]globKind{
	{
		contract.AllowedServices, "allowedServices", func(c *Config) string { return c.AllowedServices },
		registration.ParseServiceGlobs, func(a *registration.Allowed) *registration.Globs { return &a.Services },
	},
	{
		contract.AllowedTags, "allowedTags", func(c *Config) string { return c.AllowedTags },
		registration.ParseTagGlobs, func(a *registration.Allowed) *registration.Globs { return &a.Tags },
	},
}

// allowed are the installation's own globs.
func (c *Config) allowed(root *field.Path) (allowed registration.Allowed, errs field.ErrorList) {
	for i := range globKinds {
		kind := &globKinds[i]
		text := kind.ofConfig(c)
		if text == "" {
			continue
		}
		globs, err := kind.parse(text, "the chart's "+kind.chartValue)
		if err != nil {
			errs = append(errs, field.Invalid(root.Child(kind.chartValue), text, kind.problem(err)))
		}
		*kind.of(&allowed) = globs
	}
	return allowed, errs
}

// allowed are the globs in force for the request's namespace: its annotations', or else the installation's.
func (i *Injector) allowed(request *Request) (allowed registration.Allowed, errs field.ErrorList) {
	allowed = i.usuallyAllowed
	for k := range globKinds {
		kind := &globKinds[k]
		text, there := request.NamespaceAnnotations[kind.annotation]
		if !there {
			continue
		}
		globs, err := kind.parse(text, fmt.Sprintf("annotation %s of namespace %s", kind.annotation, request.Namespace))
		if err != nil {
			// The path is the namespace's: it is nothing that the pod's author can mend.
			path := field.NewPath("namespace", "metadata", "annotations").Key(kind.annotation)
			errs = append(errs, field.Invalid(path, text, kind.problem(err)))
		}
		*kind.of(&allowed) = globs
	}
	return allowed, errs
}

func (k *globKind) problem(err error) string {
	for _, key := range contract.Keys() {
		if key.Name == k.annotation {
			return "must be " + key.Form + ": " + err.Error()
		}
	}
	return err.Error()
}

// allowedArgs tell an agentlet what it may register where that isn't everything.
func allowedArgs(allowed *registration.Allowed) (args []string) {
	for i := range globKinds {
		if globs := globKinds[i].of(allowed); !globs.All() {
			args = append(args, "--"+contract.Short(globKinds[i].annotation)+"="+globs.String())
		}
	}
	return args
}
