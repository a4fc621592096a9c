// Package limits finds the LimitRanges that refuse a container that the injector adds. The API server's message names neither the
// container nor the LimitRange, and the author of the pod has never seen the container.
package limits

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Refusal of a container by a LimitRange.
type Refusal struct {
	// LimitRange is its name.
	LimitRange string
	// Message says which container it refuses, and why, in the API server's words.
	Message string
	// Remedy says which settings it admits; empty if there are none.
	Remedy string
}

// Added are the containers that a patch of the injector adds to a pod.
func Added(patch []jsonpatch.Operation) (added []*corev1.Container) {
	for _, op := range patch {
		switch value := op.Value.(type) {
		case *corev1.Container:
			added = append(added, value)
		case []*corev1.Container:
			added = append(added, value...)
		}
	}
	return added
}

// Refused returns what these LimitRanges of a namespace say against a container, in the order of their names. It looks at their
// bounds for a container, and not at those for a pod as a whole.
func Refused(container *corev1.Container, ranges []corev1.LimitRange) (all []Refusal) {
	ranges = slices.SortedFunc(slices.Values(ranges), func(a, b corev1.LimitRange) int { return cmp.Compare(a.Name, b.Name) })
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		asked := pair{quantity(container.Resources.Requests, name), quantity(container.Resources.Limits, name)}
		effective := asked.defaulted(name, ranges)
		for i := range ranges {
			if wrong := effective.errors(name, ranges[i:i+1]); len(wrong) > 0 {
				all = append(all, Refusal{
					LimitRange: ranges[i].Name,
					Message:    fmt.Sprintf("it refuses %s, which has %s: %s", calls[container.Name], effective, strings.Join(wrong, "; ")),
					Remedy:     remedy(container.Name, name, asked, ranges),
				})
			}
		}
	}
	return all
}

// calls is what the containers are called.
var calls = map[string]string{contract.ContainerName: "the agentlet", contract.ProxyContainerName: "the mesh proxy"}

// pair is the request and the limit of one resource; nil for none.
type pair struct{ request, limit *resource.Quantity }

func quantity(list corev1.ResourceList, name corev1.ResourceName) *resource.Quantity {
	if q, ok := list[name]; ok {
		return &q
	}
	return nil
}

func (p pair) String() string {
	text := func(q *resource.Quantity) string {
		if q == nil {
			return "none"
		}
		return q.String()
	}
	return fmt.Sprintf("the request %s and the limit %s", text(p.request), text(p.limit))
}

// defaulted is what the API server makes of it: a missing request becomes the limit, and what is still missing comes from the
// LimitRanges' defaults.
func (p pair) defaulted(name corev1.ResourceName, ranges []corev1.LimitRange) pair {
	if p.request == nil {
		p.request = p.limit
	}
	for item := range items(ranges) {
		p.request = cmp.Or(p.request, quantity(item.DefaultRequest, name))
		p.limit = cmp.Or(p.limit, quantity(item.Default, name))
	}
	return p
}

// items are the bounds for containers.
func items(ranges []corev1.LimitRange) func(yield func(*corev1.LimitRangeItem) bool) {
	return func(yield func(*corev1.LimitRangeItem) bool) {
		for i := range ranges {
			for k := range ranges[i].Spec.Limits {
				if item := &ranges[i].Spec.Limits[k]; item.Type == corev1.LimitTypeContainer && !yield(item) {
					return
				}
			}
		}
	}
}

// errors are what the API server says against it, in the words of its admission plugin LimitRanger.
func (p pair) errors(name corev1.ResourceName, ranges []corev1.LimitRange) (errs []string) {
	for item := range items(ranges) {
		if least := quantity(item.Min, name); least != nil {
			of := fmt.Sprintf("minimum %s usage per Container is %s", name, least)
			switch {
			case p.request == nil:
				errs = append(errs, of+".  No request is specified")
			case p.request.Cmp(*least) < 0:
				errs = append(errs, fmt.Sprintf("%s, but request is %s", of, p.request))
			case p.limit != nil && p.limit.Cmp(*least) < 0:
				errs = append(errs, fmt.Sprintf("%s, but limit is %s", of, p.limit))
			}
		}
		if most := quantity(item.Max, name); most != nil {
			of := fmt.Sprintf("maximum %s usage per Container is %s", name, most)
			switch {
			case p.limit == nil:
				errs = append(errs, of+".  No limit is specified")
			case p.limit.Cmp(*most) > 0:
				errs = append(errs, fmt.Sprintf("%s, but limit is %s", of, p.limit))
			case p.request != nil && p.request.Cmp(*most) > 0:
				errs = append(errs, fmt.Sprintf("%s, but request is %s", of, p.request))
			}
		}
		if ratio := quantity(item.MaxLimitRequestRatio, name); ratio != nil {
			of := fmt.Sprintf("%s max limit to request ratio per Container is %s", name, ratio)
			switch {
			case p.request == nil || p.request.IsZero():
				errs = append(errs, of+", but no request is specified or request is 0")
			case p.limit == nil || p.limit.IsZero():
				errs = append(errs, of+", but no limit is specified or limit is 0")
			default:
				if is := p.limit.AsApproximateFloat64() / p.request.AsApproximateFloat64(); is > ratio.AsApproximateFloat64() {
					errs = append(errs, fmt.Sprintf("%s, but provided ratio is %f", of, is))
				}
			}
		}
	}
	return errs
}

// useful are requests and limits with which the agentlet is quick: those that it gets in a Guaranteed pod.
var useful = map[corev1.ResourceName]resource.Quantity{
	corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
}

// remedy says which request and limit all LimitRanges admit: a request of their minimum where that is all that is missing, else
// a request that equals the limit.
func remedy(container string, name corev1.ResourceName, asked pair, ranges []corev1.LimitRange) string {
	fits := func(p pair) bool { return len(p.defaulted(name, ranges).errors(name, ranges)) == 0 }
	if asked.request != nil {
		if raised := within(*asked.request, name, ranges); fits(pair{&raised, asked.limit}) {
			return settings(container, name, pair{&raised, nil})
		}
	}
	both := useful[name]
	switch {
	case asked.limit != nil:
		both = *asked.limit
	case asked.request != nil && asked.request.Cmp(both) > 0:
		both = *asked.request
	}
	both = within(both, name, ranges)
	if p := (pair{&both, &both}); fits(p) {
		return settings(container, name, p)
	}
	return ""
}

// within is the quantity, or the minimum or maximum of the LimitRanges where it is less or more.
func within(q resource.Quantity, name corev1.ResourceName, ranges []corev1.LimitRange) resource.Quantity {
	for item := range items(ranges) {
		if least := quantity(item.Min, name); least != nil && q.Cmp(*least) < 0 {
			q = *least
		}
		if most := quantity(item.Max, name); most != nil && q.Cmp(*most) > 0 {
			q = *most
		}
	}
	return q
}

// settings says where to set a request and a limit.
func settings(container string, name corev1.ResourceName, p pair) string {
	keys, where := [2]string{contract.CPURequest, contract.CPULimit}, "on the pod, or in the installation's defaults"
	if name == corev1.ResourceMemory {
		keys = [2]string{contract.MemoryRequest, contract.MemoryLimit}
	}
	if container == contract.ProxyContainerName {
		keys = [2]string{"connect.resources.requests." + string(name), "connect.resources.limits." + string(name)}
		where = "in the chart's values"
	}
	text := fmt.Sprintf("set %s: %s", keys[0], p.request)
	if p.limit != nil {
		text += fmt.Sprintf(" and %s: %s", keys[1], p.limit)
	}
	return text + ", " + where
}
