package registration

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// metaLabel is one item of meta-from-labels: the label whose value becomes the value of the meta key.
type metaLabel struct{ key, label string }

// fromLabels adds the tags and meta that come from the pod's labels to every service. A label that the pod doesn't
// have, or that is empty, adds nothing; one that it has wins over the meta that the annotations give, which so becomes
// its default.
func (r *reader) fromLabels(services []Service) {
	if v, ok := r.value(contract.TagsFromLabels, ""); ok {
		labels, err := parseTagLabels(v.text)
		if err != nil {
			r.invalid(v, err)
		}
		r.checkLabels(v, labels)
		for _, label := range labels {
			if tag := r.pod.Labels[label]; tag != "" {
				r.askTag(tag, annotation(v.found), fmt.Sprintf(" (the value of label %s)", label))
			}
		}
		for i := range services {
			services[i].addTags(labels, r.pod.Labels)
		}
	}
	if v, ok := r.value(contract.MetaFromLabels, ""); ok {
		labels, err := parseMetaLabels(v.text)
		if err != nil {
			r.invalid(v, err)
		}
		for _, l := range labels {
			r.checkLabels(v, []string{l.label})
		}
		for i := range services {
			if err := services[i].addMeta(labels, r.pod.Labels); err != nil {
				r.add(field.Invalid(annotation(v.found), Excerpt(v.text), err.Error()))
			}
		}
	}
}

// checkLabels checks values that the API server has not seen yet, when a pod is created.
func (r *reader) checkLabels(v value, labels []string) {
	for _, label := range labels {
		if err := checkText(r.pod.Labels[label]); err != nil {
			r.add(field.Invalid(annotation(v.found), Excerpt(v.text), fmt.Sprintf("the label %s: %s", label, err)))
		}
	}
}

func (s *Service) addTags(labels []string, values map[string]string) {
	for _, label := range labels {
		if tag := values[label]; tag != "" && !slices.Contains(s.Tags, tag) {
			s.Tags = append(s.Tags, tag)
		}
	}
}

// addMeta adds the labels' meta. It counts a label that the pod doesn't have now, too: relabelling a pod later can't
// break its registration.
func (s *Service) addMeta(labels []metaLabel, values map[string]string) error {
	pairs := len(s.Meta)
	for _, l := range labels {
		if _, ok := s.Meta[l.key]; !ok {
			pairs++
		}
	}
	if err := checkMetaCount(pairs); err != nil {
		return err
	}
	for _, l := range labels {
		if value := values[l.label]; value != "" {
			if s.Meta == nil {
				s.Meta = make(map[string]string, len(labels))
			}
			s.Meta[l.key] = value
		}
	}
	return nil
}

// parseTagLabels parses tags-from-labels.
func parseTagLabels(text string) ([]string, error) {
	labels, err := splitList(text)
	if err != nil {
		return nil, err
	}
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return nil, err
		}
	}
	return labels, nil
}

// parseMetaLabels parses meta-from-labels.
func parseMetaLabels(text string) ([]metaLabel, error) {
	items, err := splitList(text)
	if err != nil {
		return nil, err
	}
	labels := make([]metaLabel, 0, len(items))
	for _, item := range items {
		key, label, ok := strings.Cut(item, "=")
		if key, label = strings.TrimSpace(key), strings.TrimSpace(label); !ok {
			key, label = metaKeyOf(item), item
		}
		if err := checkLabel(label); err != nil {
			return nil, err
		}
		if err := checkMetaKey(key); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(labels, func(l metaLabel) bool { return l.key == key }) {
			return nil, fmt.Errorf("the meta key %q is there twice; name it as in key=label", key)
		}
		labels = append(labels, metaLabel{key: key, label: label})
	}
	return labels, nil
}

// metaKeyOf is the meta key for a label without one: the label's name without its domain, in Consul's alphabet.
func metaKeyOf(label string) string {
	return strings.ReplaceAll(label[strings.LastIndexByte(label, '/')+1:], ".", "_")
}

func checkLabel(label string) error {
	if wrong := validation.IsQualifiedName(label); len(wrong) > 0 {
		return fmt.Errorf("%q is no label key: %s", Excerpt(label), wrong[0])
	}
	return nil
}
