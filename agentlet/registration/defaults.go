package registration

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Defaults stand between a pod's annotations and the contract's own defaults. Those of an installation are there by the key
// without its prefix ("drain-delay"). Those of the pod's namespace are there by the whole key, as the namespace is annotated, and
// come first.
type Defaults map[string]string

// DefaultFlag is the agentlet's flag for defaults, with KEY=VALUE. The injector writes them into the container's arguments, so
// that a pod keeps the defaults that held when it was created.
const DefaultFlag = "default"

// lookup finds the default for a key of the contract.
func (d Defaults) lookup(key string) (text string, from source, ok bool) {
	if text, ok = d[key]; ok {
		return text, ofNamespace, true
	}
	text, ok = d[contract.Short(key)]
	return text, ofInstallation, ok
}

// Args are the arguments that hand the defaults to the agentlet. A namespace's stands there with and without the key's prefix: an
// agentlet of an older release, which knows those of an installation alone, ignores the former and takes the latter.
func (d Defaults) Args() (args []string) {
	for _, key := range slices.Sorted(maps.Keys(d)) {
		value := "=" + escape(d[key])
		if strings.HasPrefix(key, contract.Prefix) {
			args = append(args, "--"+DefaultFlag+"="+key+value)
		} else if _, replaced := d[contract.Prefix+key]; replaced {
			continue
		}
		args = append(args, "--"+DefaultFlag+"="+contract.Short(key)+value)
	}
	return args
}

// InForce returns the defaults that hold for a pod because it says nothing itself, by the key without its prefix: those of its
// namespace, and those of the installation.
func (d Defaults) InForce(pod *corev1.Pod) (namespace, installation map[string]string) {
	namespace, installation = map[string]string{}, map[string]string{}
	for _, spec := range podKeys {
		if _, own := pod.Annotations[spec.Name]; own {
			continue
		}
		switch text, from, ok := d.lookup(spec.Name); {
		case ok && from == ofNamespace:
			namespace[contract.Short(spec.Name)] = text
		case ok:
			installation[contract.Short(spec.Name)] = text
		}
	}
	return namespace, installation
}

// SetFlag takes over the value of the flag.
func (d Defaults) SetFlag(pair string) error {
	key, value, found := strings.Cut(pair, "=")
	if !found || key == "" {
		return errors.New("want KEY=VALUE")
	}
	d[key] = value
	return nil
}

// DefaultsOf returns the defaults that an agentlet's arguments hold.
func DefaultsOf(agentlet *corev1.Container) Defaults {
	d := Defaults{}
	for _, arg := range agentlet.Args {
		if pair, found := strings.CutPrefix(arg, "--"+DefaultFlag+"="); found {
			_ = d.SetFlag(unescape(pair)) // what is no pair, the agentlet refuses itself
		}
	}
	return d
}

// escape keeps the kubelet from expanding $(NAME) in an argument.
func escape(text string) string {
	if strings.Contains(text, "$(") || strings.Contains(text, "$$") {
		return strings.ReplaceAll(text, "$", "$$")
	}
	return text
}

// unescape is what the kubelet makes of an argument that was escaped.
func unescape(text string) string { return strings.ReplaceAll(text, "$$", "$") }

// WithNamespace adds the defaults that a namespace's annotations are for its pods. A value that no pod could have is left out,
// with a warning, and the installation's holds: as an error it would stop the creation of all the namespace's pods, and their
// authors could not correct it.
func (d Defaults) WithNamespace(annotations map[string]string) (Defaults, []Warning) {
	size := 0
	var keys []string
	for key, text := range annotations {
		if spec, known := podKeys[key]; known && spec.NamespaceDefault() {
			keys, size = append(keys, key), size+len(key)+len(text)
		}
	}
	if len(keys) == 0 {
		return d, nil
	}
	slices.Sort(keys)
	if size > maxText {
		return d, []Warning{namespaceWarning(keys[0], fmt.Sprintf(
			"has no effect: this and the other defaults hold %d bytes, and must not hold more than %d", size, maxText))}
	}
	n := namespaceReader{defaults: maps.Clone(d)}
	if n.defaults == nil {
		n.defaults = Defaults{}
	}
	for _, key := range keys {
		if err := tryValue(key, annotations[key]); err != nil {
			n.warn(key, annotations[key], expectation(podKeys[key].Form, err))
			continue
		}
		n.defaults[key] = annotations[key]
	}
	n.dropConflicts()
	return n.defaults, n.warnings
}

// namespaceReader gathers the defaults of one namespace's pods.
type namespaceReader struct {
	defaults Defaults
	warnings []Warning
}

func (n *namespaceReader) warn(key, text, why string) {
	n.warnings = append(n.warnings, namespaceWarning(key, fmt.Sprintf("%q has no effect: %s", Excerpt(text), why)))
}

// drop leaves out the namespace's value of a key, if there is one.
func (n *namespaceReader) drop(key, why string) {
	if text, ours := n.defaults[key]; ours {
		n.warn(key, text, why)
		delete(n.defaults, key)
	}
}

// dropConflicts leaves out values that can't hold together, or not together with those of the installation.
func (n *namespaceReader) dropConflicts() {
	r := &reader{pod: &corev1.Pod{}, defaults: n.defaults}
	s, _ := r.readSettings()
	for _, c := range conflicts(&s, nil) {
		v, _ := r.value(c.key, "")
		n.drop(c.key, c.why)
		n.drop(c.other, fmt.Sprintf("%s (%s) %s", c.key, Excerpt(v.text), c.why))
	}
}
