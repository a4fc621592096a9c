package registration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var errNoNames = errors.New("it names no service")

// isFlatKey reports whether a key belongs to the flat form, known or not.
func isFlatKey(key string) bool { return strings.HasPrefix(key, contract.Prefix+"service-") }

// flatServices reads the services of the flat form.
func (r *reader) flatServices() []Service {
	v, _ := r.value(contract.ServiceNames, "")
	listed, err := splitList(v.text)
	if err == nil && len(listed) == 0 {
		err = errNoNames
	}
	if err == nil {
		err = checkCount(len(listed), MaxServices, "services")
	}
	if err != nil {
		r.invalid(v, err)
		r.checkFlatValues()
		return nil
	}
	r.listed = listed
	r.refuseUndotted()
	taken, unread := make(names, len(listed)), false
	services := make([]Service, 0, len(listed))
	for _, name := range listed {
		if err := checkServiceName(name); err != nil {
			r.invalid(v, err)
			unread = true
			continue
		}
		if !taken.take(name) {
			r.add(field.Duplicate(annotation(v.found), name))
			continue
		}
		services = append(services, r.flatService(name))
	}
	if unread {
		r.checkFlatValues()
	}
	return services
}

// checkFlatValues adds the errors that the values of services have by themselves, where it can't be read whose they are: all
// errors are told at once.
func (r *reader) checkFlatValues() {
	for _, key := range slices.Sorted(maps.Keys(r.pod.Annotations)) {
		spec, _, ok := contract.Lookup(key)
		if !ok || !spec.PerService || len(r.errs) > maxErrors {
			continue
		}
		v := value{text: r.pod.Annotations[key], found: key, spec: podKeys[spec.Name]}
		err := tryValue(spec.Name, v.text)
		if spec.Name == contract.ServicePort {
			_, err = servicePort(r.pod, v.text)
		}
		if err != nil {
			r.invalid(v, err)
		}
	}
}

// refuseUndotted adds an error for each key that says KEY-NAME of a service where KEY.NAME is meant. As an unknown key it would
// be passed over, and the service would get what is for all services, such as another one's port.
func (r *reader) refuseUndotted() {
	var errs field.ErrorList
	for key := range r.pod.Annotations {
		if !isFlatKey(key) || podKeys[key] != nil {
			continue
		}
		for _, spec := range podKeys {
			rest, found := strings.CutPrefix(key, spec.Name)
			if !found || !spec.PerService || rest == "" || !strings.ContainsRune("-_", rune(rest[0])) {
				continue
			}
			if i := slices.IndexFunc(r.listed, func(name string) bool { return strings.EqualFold(name, rest[1:]) }); i >= 0 {
				errs = append(errs, field.Forbidden(annotation(key),
					fmt.Sprintf("is not known to agentlet; did you mean %s.%s?", spec.Name, r.listed[i])))
			}
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	for _, err := range errs {
		r.add(err)
		r.undotted = append(r.undotted, err.Field)
	}
}

// flatService reads the keys of one service.
func (r *reader) flatService(name string) Service {
	s := Service{Name: name}
	s.Port = r.flatPort(name)
	if v, ok := r.value(contract.ServiceTags, name); ok {
		tags, err := parseTags(v.text)
		if err != nil {
			r.invalid(v, err)
		}
		path, note := annotation(v.found), v.note()
		for i := range tags {
			tags[i] = r.named(path, "tag", tags[i])
			r.askTag(tags[i], path, note)
		}
		s.Tags = unique(tags)
	}
	if v, ok := r.value(contract.ServiceMeta, name); ok {
		meta, err := parseMeta(v.text)
		for key, text := range meta {
			meta[key] = r.named(annotation(v.found), "meta "+key, text)
			if err == nil {
				err = checkMeta(key, meta[key])
			}
		}
		if err != nil {
			r.invalid(v, err)
		}
		s.Meta = meta
	}
	if v, ok := r.value(contract.ServiceHealth, name); ok {
		health, err := parseHealth(v.text)
		if err != nil {
			r.invalid(v, err)
		}
		s.Health = health
	}
	return s
}

func (r *reader) flatPort(name string) int {
	v, ok := r.value(contract.ServicePort, name)
	if !ok {
		port, err := r.portDefault(name)
		if err != nil {
			r.add(field.Required(annotation(contract.ServicePort), expectation(v.spec.Form, err)))
		}
		return port
	}
	port, err := servicePort(r.pod, v.text)
	if err != nil {
		r.invalid(v, err)
	}
	return port
}

// parseTags parses the flat form of tags.
func parseTags(text string) ([]string, error) {
	items, err := splitList(text)
	return unique(items), err
}

// unique drops every item that came before, in place.
func unique(items []string) []string {
	kept := items[:0]
	for _, item := range items {
		if !slices.Contains(kept, item) {
			kept = append(kept, item)
		}
	}
	return kept
}

// parseMeta parses the flat form of meta.
func parseMeta(text string) (map[string]string, error) {
	items, err := splitList(text)
	if err != nil || len(items) == 0 {
		return nil, err
	}
	meta := make(map[string]string, len(items))
	for _, item := range items {
		key, text, ok := strings.Cut(item, ":")
		key, text = strings.TrimSpace(key), strings.TrimSpace(text)
		if !ok {
			return nil, fmt.Errorf("%q has no colon", Excerpt(item))
		}
		if _, ok := meta[key]; ok {
			return nil, fmt.Errorf("the key %q is there twice", Excerpt(key))
		}
		if err := checkMeta(key, text); err != nil {
			return nil, err
		}
		meta[key] = text
	}
	return meta, checkMetaCount(len(meta))
}
