package injector

import (
	"fmt"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// Request is one pod at admission.
type Request struct {
	// Namespace of the admission request; a pod's own metadata.namespace may be empty then.
	Namespace string
	// Pod is only read.
	Pod *corev1.Pod
	// NamespaceAnnotations of the namespace. Those of the contract are read, which say what its pods may register, and defaults for
	// them, and Linkerd's. Where one of the contract is missing, the configuration's value holds.
	NamespaceAnnotations map[string]string
	// NamespaceLabels of the namespace. Istio's are read.
	NamespaceLabels map[string]string
	// Nonce ties the drain hooks to this pod's agentlet. A pod that was injected before keeps its nonce. It has to be hard to
	// guess, and is never empty.
	Nonce string
}

// Outcome of a decision.
type Outcome string

// The outcomes.
const (
	Injected Outcome = "injected"
	Skipped  Outcome = "skipped"
	Denied   Outcome = "denied"
)

// Decision is the injector's answer for one pod.
type Decision struct {
	Outcome Outcome
	Reason  Reason
	// Errors of a denial, all of them.
	Errors field.ErrorList
	// Warnings for the author of the pod, with any outcome.
	Warnings []registration.Warning
	// Patch holds only add operations; empty when the pod needs none. Its values are shared between decisions, and read-only.
	Patch []jsonpatch.Operation
	// CopyOf is the pod for which the agentlet of this one was injected, where that is another one; empty for all others. A copy is
	// not registered.
	CopyOf string
	// Defaults that hold for a pod that is registered or denied: the namespace's and the configuration's, as they are now or, where
	// an earlier injection has written them down, as they were then. Read-only.
	Defaults registration.Defaults
	// Translated are another system's annotations as keys of the contract. The patch adds them to the pod.
	Translated map[string]string
	// Bypasses are the pod's other service meshes, whose proxies may not take the agentlet's connections.
	Bypasses []Bypass
}

// Injector decides on pods. It is safe for concurrent use, and its only state is its configuration.
type Injector struct {
	config Config
	parts  podAdditions
	// usuallyAllowed is what pods may register where their namespace doesn't say it.
	usuallyAllowed registration.Allowed
}

// New returns an Injector, or all errors of the configuration.
func New(config Config) (*Injector, error) {
	if err := config.validate().ToAggregate(); err != nil {
		return nil, err
	}
	allowed, _ := config.allowed() // the errors are those of validate
	return &Injector{config: config, parts: newPodAdditions(&config), usuallyAllowed: allowed}, nil
}

// Decide on one pod.
func (i *Injector) Decide(request Request) Decision {
	pod, translation := i.translate(request.Pod)
	switch {
	case !registration.Wanted(pod):
		return unwanted(pod, &translation)
	case registration.OptedOut(pod):
		return Decision{Outcome: Skipped, Reason: ReasonOptedOut}
	case windows(pod):
		return Decision{Outcome: Skipped, Reason: ReasonUnsupportedOS, Warnings: []registration.Warning{
			{Message: "agentlet runs on Linux only: this pod will not be registered in Consul"},
		}}
	case mirrors(pod):
		return Decision{Outcome: Skipped, Reason: ReasonMirrorPod, Warnings: []registration.Warning{
			{Message: "this is a static pod, which its node's kubelet runs as its file has it: it will not be registered in Consul"},
		}}
	}
	if original := registration.CopyOf(pod); original != "" {
		return copied(original)
	}

	found := scan(pod)
	defaults, wrongDefaults := i.defaults(&request, &found)
	reg, warnings, errs := registration.Lint(pod, defaults, translation.Origins)
	errs, warnings = append(translation.Errors, errs...), translation.MapWarnings(warnings)
	if found.agentlet == nil { // else an earlier injection has translated the annotations, and reported them
		warnings = append(warnings, translation.Warnings...)
	}
	warnings = append(warnings, wrongDefaults...)
	reason := ReasonInvalidAnnotations
	allowed, wrong := i.allowed(&request)
	errs = append(errs, wrong...)
	if reg != nil {
		services, tags := allowed.NotAllowed(pod, reg)
		if len(services) > 0 {
			reason = firstReason(errs, reason, ReasonServiceNotAllowed)
			errs = append(errs, services...)
		}
		if len(tags) > 0 {
			reason = firstReason(errs, reason, ReasonTagNotAllowed)
			errs = append(errs, tags...)
		}
	}
	if collisions := i.nameCollisions(pod, &found); len(collisions) > 0 {
		reason = firstReason(errs, reason, ReasonNameCollision)
		errs = append(errs, collisions...)
	}
	if collisions := i.portCollisions(pod, &found, defaults); len(collisions) > 0 {
		reason = firstReason(errs, reason, ReasonPortCollision)
		errs = append(errs, collisions...)
	}
	service := meshed(reg)
	errs = append(errs, i.proxyErrors(&found, service)...)
	if collisions := i.proxyCollisions(pod, &found, service); len(collisions) > 0 {
		reason = firstReason(errs, reason, ReasonNameCollision)
		errs = append(errs, collisions...)
	}
	if len(errs) > 0 {
		return Decision{
			Outcome: Denied, Reason: reason, Errors: translation.MapErrors(errs), Warnings: warnings, Defaults: defaults,
		}
	}

	c := patchBuilder{
		parts:      &i.parts,
		pod:        pod,
		found:      &found,
		settings:   &reg.Settings,
		nonce:      request.Nonce,
		allowed:    &allowed,
		service:    service,
		otherGates: i.otherGates(pod),
		record:     record(&request),
		defaults:   defaults,
		warnings:   warnings,
	}
	c.addAnnotations(translation.Annotations)
	c.compose(&request)
	if len(c.patch) == 0 {
		return Decision{
			Outcome: Skipped, Reason: ReasonAlreadyInjected, Warnings: c.warnings, Defaults: defaults, Bypasses: c.bypasses,
		}
	}
	return Decision{
		Outcome:    Injected,
		Reason:     ReasonInjected,
		Warnings:   c.warnings,
		Patch:      c.patch,
		Defaults:   defaults,
		Translated: translation.Annotations,
		Bypasses:   c.bypasses,
	}
}

// defaults are those that the pod's agentlet was told at an earlier injection, because it follows them. Else they are the
// namespace's over the configuration's, with warnings of those that have no effect.
func (i *Injector) defaults(request *Request, found *existing) (registration.Defaults, []registration.Warning) {
	if found.agentlet != nil {
		return registration.DefaultsOf(found.agentlet), nil
	}
	defaults, warnings := i.config.Defaults.WithNamespace(request.NamespaceAnnotations)
	for w := range warnings {
		warnings[w].Message = fmt.Sprintf("namespace %q: %s", request.Namespace, warnings[w].Message)
	}
	return defaults, warnings
}

// firstReason keeps the reason of the errors that were found before, which have to be corrected first.
func firstReason(before field.ErrorList, reason, next Reason) Reason {
	if len(before) > 0 {
		return reason
	}
	return next
}
