package injector

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector/dialect"
)

// translate reads the pod's annotations in the configured dialects. The returned pod has the translation among its annotations,
// and shares everything else with the argument.
func (i *Injector) translate(pod *corev1.Pod) (*corev1.Pod, dialect.Translation) {
	if len(i.config.Dialects) == 0 || len(pod.Annotations) == 0 {
		return pod, dialect.Translation{}
	}
	t := dialect.Translate(pod.Annotations, i.config.Dialects)
	if len(t.Annotations) == 0 {
		return pod, t
	}
	translated := *pod
	translated.Annotations = maps.Clone(pod.Annotations)
	maps.Copy(translated.Annotations, t.Annotations)
	return &translated, t
}

// unwanted is the decision on a pod that requests no registration.
func unwanted(pod *corev1.Pod, t *dialect.Translation) Decision {
	d := Decision{Outcome: Skipped, Reason: ReasonNotAnnotated, Warnings: append(registration.UnknownKeys(pod), t.Warnings...)}
	switch t.Left {
	case dialect.OptedOut:
		d.Reason = ReasonOptedOut
	case dialect.Meshed:
		d.Reason = ReasonMeshed
	}
	return d
}

// otherGates are the pod's gates of the dialects' systems, which the agentlet opens in their place.
func (i *Injector) otherGates(pod *corev1.Pod) (gates []string) {
	for _, gate := range dialect.Gates(i.config.Dialects) {
		if slices.ContainsFunc(pod.Spec.ReadinessGates,
			func(g corev1.PodReadinessGate) bool { return string(g.ConditionType) == gate }) {
			gates = append(gates, gate)
		}
	}
	return gates
}

// addAnnotations adds a translation, key by key. The pod has annotations, at least those that were translated.
func (c *patchBuilder) addAnnotations(annotations map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		c.add("/metadata/annotations/"+pointer.Replace(key), annotations[key])
	}
}

// pointer escapes a key for a JSON pointer.
var pointer = strings.NewReplacer("~", "~0", "/", "~1")
