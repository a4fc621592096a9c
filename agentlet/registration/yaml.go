package registration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	errDocuments = errors.New("it holds more than one YAML document")
	errEmptyYAML = errors.New("it is empty")
)

// parseYAML parses one YAML document. The nodes keep every scalar as it was written.
func parseYAML(text string) (*yaml.Node, error) {
	if err := checkMarks(text); err != nil {
		return nil, err
	}
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) || (err == nil && len(doc.Content) == 0) {
		return nil, errEmptyYAML
	} else if err != nil {
		return nil, err
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errDocuments
	}
	return doc.Content[0], nil
}

// decoder reads YAML nodes into Go values; what is wrong with them goes to add, with the path of the node. A reading
// method returns the zero value, and false, for a node that it has found wrong.
type decoder struct {
	r *reader
	// named has the named ports of the service that is being read, with their numbers within the pod. Its checks may use the names.
	named map[string]int
}

// readers are the keys of a YAML mapping with what reads each into a T.
type readers[T any] map[string]func(d decoder, path *field.Path, n *yaml.Node, into *T)

// readObject reads a mapping key by key. A key in refused is answered with its reason, any other one that isn't in
// known with the nearest or with all of them; null is as good as absent. It returns the keys that are present, right or
// wrong, and whether the node is a mapping.
func readObject[T any](
	d decoder,
	path *field.Path,
	n *yaml.Node,
	known readers[T],
	refused map[string]string,
	into *T,
) (present map[string]bool, ok bool) {
	if !d.kind(path, n, yaml.MappingNode, "a mapping") {
		return nil, false
	}
	present = make(map[string]bool, len(n.Content)/2)
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i].Value, n.Content[i+1]
		at := path.Child(Excerpt(key))
		read, ok := known[key]
		switch {
		case n.Content[i].Kind != yaml.ScalarNode, HasControl(key):
			d.r.add(field.Invalid(path, describe(n.Content[i]), "a key must be a word"))
		case seen[key]:
			d.r.add(field.Duplicate(at, Excerpt(value.Value)))
		case refused[key] != "":
			d.r.add(field.Forbidden(at, refused[key]))
		case !ok:
			d.r.add(field.Invalid(at, describe(value), "unknown key"+d.expectedKeys(key, slices.Sorted(maps.Keys(known)))))
		case value.ShortTag() != "!!null":
			read(d, at, value, into)
		}
		seen[key] = true
		present[key] = present[key] || value.ShortTag() != "!!null"
	}
	return present, true
}

// expectedKeys is the end of a message on an unknown key.
func (d decoder) expectedKeys(key string, known []string) string {
	if d.r.hints {
		if hint := didYouMean(key, slices.Values(known)); hint != "" {
			return hint
		}
	}
	return "; known are " + strings.Join(known, ", ")
}

// kind refuses a node of another kind. Aliases are of no kind: a few lines of them can stand for gigabytes.
func (d decoder) kind(path *field.Path, n *yaml.Node, kind yaml.Kind, form string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.r.add(field.Invalid(path, "*"+Excerpt(n.Value), "YAML aliases are not supported"))
	case n.Kind != kind:
		d.r.add(field.Invalid(path, describe(n), "must be "+form))
	case len(n.Content) > 2*maxItems:
		d.r.add(field.TooMany(path, len(n.Content), maxItems))
		return false
	}
	return n.Kind == kind
}

// describe shows a node in a message.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return Excerpt(n.Value)
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "*" + Excerpt(n.Value)
	case yaml.DocumentNode: // is never within one
	}
	return ""
}

// text reads a scalar as it was written, be it a number or a boolean to YAML. It has no control characters.
func (d decoder) text(path *field.Path, n *yaml.Node, form string) (string, bool) {
	text, ok := d.lines(path, n, form)
	if err := checkText(text); err != nil {
		d.r.add(field.Invalid(path, Excerpt(text), err.Error()))
		return "", false
	}
	return text, ok
}

// lines is text that may hold anything, line breaks too.
func (d decoder) lines(path *field.Path, n *yaml.Node, form string) (string, bool) {
	if !d.kind(path, n, yaml.ScalarNode, form) {
		return "", false
	}
	switch n.ShortTag() {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge":
		return n.Value, true
	}
	d.r.add(field.Invalid(path, Excerpt(n.Value), "must be "+form))
	return "", false
}

// parsed reads a scalar through one of the parsers of the flat form.
func parsed[T any](d decoder, path *field.Path, n *yaml.Node, form string, parse func(string) (T, error)) (v T, ok bool) {
	text, ok := d.text(path, n, form)
	if !ok {
		return v, false
	}
	v, err := parse(text)
	if err != nil {
		d.r.add(field.Invalid(path, Excerpt(text), expectation(form, err)))
	}
	return v, err == nil
}

func (d decoder) boolean(path *field.Path, n *yaml.Node) bool {
	v, _ := parsed(d, path, n, "true or false", parseBool)
	return v
}

func (d decoder) integer(path *field.Path, n *yaml.Node, least, most int) int {
	v, _ := parsed(d, path, n, fmt.Sprintf("a number (%d-%d)", least, most), func(text string) (int, error) {
		v, err := strconv.Atoi(text)
		if err != nil || v < least || v > most {
			return 0, errForm
		}
		return v, nil
	})
	return v
}

func (d decoder) duration(path *field.Path, n *yaml.Node, least time.Duration) time.Duration {
	v, _ := parsed(d, path, n, "a duration such as 10s", func(text string) (time.Duration, error) {
		return parseDuration(text, least, maxDuration)
	})
	return v
}

// list returns the items of a list that has at most so many.
func (d decoder) list(path *field.Path, n *yaml.Node, most int, form string) (items []*yaml.Node, ok bool) {
	if !d.kind(path, n, yaml.SequenceNode, form) {
		return nil, false
	}
	if len(n.Content) > most {
		d.r.add(field.TooMany(path, len(n.Content), most))
		return nil, false
	}
	return n.Content, true
}

// strings reads a list of non-empty texts.
func (d decoder) strings(path *field.Path, n *yaml.Node, form string) []string {
	if !d.kind(path, n, yaml.SequenceNode, form) {
		return nil
	}
	items := make([]string, 0, len(n.Content))
	for i, item := range n.Content {
		text, ok := d.text(path.Index(i), item, "a text")
		if ok && text == "" {
			d.r.add(field.Invalid(path.Index(i), "", "must not be empty"))
		}
		items = append(items, text)
	}
	return items
}

// each calls read for each pair of a mapping whose keys are the writer's own.
func (d decoder) each(path *field.Path, n *yaml.Node, form string, read func(path *field.Path, key string, value *yaml.Node)) {
	if !d.kind(path, n, yaml.MappingNode, form) {
		return
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if !d.kind(path, key, yaml.ScalarNode, form) {
			continue
		}
		if err := checkText(key.Value); err != nil {
			d.r.add(field.Invalid(path, Excerpt(key.Value), err.Error()))
			continue
		}
		at := path.Key(Excerpt(key.Value))
		if seen[key.Value] {
			d.r.add(field.Duplicate(at, describe(n.Content[i+1])))
			continue
		}
		seen[key.Value] = true
		read(at, key.Value, n.Content[i+1])
	}
}
