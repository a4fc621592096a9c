package injector

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// globKind is one of the lists that restrict what a namespace's pods may register.
type globKind struct {
	annotation string
	ofConfig   func(*Config) string
	parse      func(text, source string) (registration.Globs, error)
	of         func(*registration.Allowed) *registration.Globs
}

var globKinds = [...]globKind{
	{
		contract.AllowedServices, func(c *Config) string { return c.AllowedServices },
		registration.ParseServiceGlobs, func(a *registration.Allowed) *registration.Globs { return &a.Services },
	},
	{
		contract.AllowedTags, func(c *Config) string { return c.AllowedTags },
		registration.ParseTagGlobs, func(a *registration.Allowed) *registration.Globs { return &a.Tags },
	},
}

// allowed returns the globs of the configuration.
func (c *Config) allowed() (allowed registration.Allowed, errs field.ErrorList) {
	for i := range globKinds {
		kind := &globKinds[i]
		text := kind.ofConfig(c)
		if text == "" {
			continue
		}
		globs, err := kind.parse(text, "the webhook's --"+kind.flag())
		if err != nil {
			errs = append(errs, field.Invalid(flag(kind.flag()), text, kind.problem(err)))
		}
		*kind.of(&allowed) = globs
	}
	return allowed, errs
}

// allowed returns the globs for the request's namespace: those of its annotations, or else those of the configuration.
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
			// The path names the namespace, because the pod's author can't correct this error.
			errs = append(errs, field.Invalid(registration.NamespaceAnnotation(kind.annotation), text, kind.problem(err)))
		}
		*kind.of(&allowed) = globs
	}
	return allowed, errs
}

// flag of the webhook and of the agentlet, which has the annotation's short name.
func (k *globKind) flag() string { return contract.Short(k.annotation) }

func (k *globKind) problem(err error) string {
	for _, key := range contract.Keys() {
		if key.Name == k.annotation {
			return "must be " + key.Form + ": " + err.Error()
		}
	}
	return err.Error()
}

// allowedArgs are the agentlet's arguments for what it may register; none where it may register everything.
func allowedArgs(allowed *registration.Allowed) (args []string) {
	for i := range globKinds {
		if globs := globKinds[i].of(allowed); !globs.All() {
			args = append(args, "--"+globKinds[i].flag()+"="+globs.String())
		}
	}
	return args
}
