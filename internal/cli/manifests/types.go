package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// mismatch is a value that is not of its field's type.
type mismatch struct {
	// path of the value, in steps from the value that was looked at.
	path []string
	// want is the type as people say it.
	want string
	// quote: the value is right as a text. Otherwise bare is it without quotes, if that is what is wrong.
	quote bool
	bare  string
}

// mismatches finds every value in JSON that the type of into can't hold, where encoding/json tells the first one alone, without
// its place.
func mismatches(raw []byte, into reflect.Type) []mismatch {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	var t typing
	t.look(nil, value, into)
	return t.found
}

type typing struct{ found []mismatch }

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// look compares a value with a type.
func (t *typing) look(path []string, value any, want reflect.Type) {
	wrong := func(form string) {
		text, isText := value.(string)
		m := mismatch{path: slices.Clone(path), want: form}
		switch value.(type) {
		case json.Number, bool:
			m.quote = want.Kind() == reflect.String
		}
		if isText && json.Unmarshal([]byte(text), reflect.New(want).Interface()) == nil {
			m.bare = text
		}
		t.found = append(t.found, m)
	}
	if value == nil {
		return
	}
	if want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	if reflect.PointerTo(want).Implements(unmarshaler) {
		raw, err := json.Marshal(value)
		if err == nil && json.Unmarshal(raw, reflect.New(want).Interface()) != nil {
			wrong(form(want))
		}
		return
	}
	switch want.Kind() {
	case reflect.String:
		if _, ok := value.(string); !ok {
			wrong("a string")
		}
	case reflect.Bool:
		if _, ok := value.(bool); !ok {
			wrong("true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		number, ok := value.(json.Number)
		if ok {
			_, err := strconv.ParseInt(number.String(), 10, want.Bits())
			ok = err == nil
		}
		if !ok {
			wrong("a whole number")
		}
	case reflect.Slice:
		list, ok := value.([]any)
		if !ok {
			wrong("a list")
		}
		for i, item := range list {
			t.look(append(path, strconv.Itoa(i)), item, want.Elem())
		}
	case reflect.Map, reflect.Struct:
		object, ok := value.(map[string]any)
		if !ok {
			wrong("a mapping")
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if of := memberType(want, key); of != nil {
				t.look(append(path, key), object[key], of)
			}
		}
	default:
	}
}

// form of a type that reads itself.
func form(of reflect.Type) string {
	if of == reflect.TypeFor[intstr.IntOrString]() {
		return "a number or a string"
	}
	return "a " + of.Name()
}

// memberType is the type of an object's member; nil where nobody reads it.
func memberType(object reflect.Type, key string) reflect.Type {
	if object.Kind() == reflect.Map {
		return object.Elem()
	}
	for field := range object.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == key {
			return field.Type
		}
		if field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct {
			if found := memberType(field.Type, key); found != nil {
				return found
			}
		}
	}
	return nil
}

// mistyped says what is wrong with the types of the object or pod at a path, each with the value as it is written.
func (d *document) mistyped(path []string, raw []byte, into reflect.Type, object string) (wrong []Diagnostic) {
	for _, m := range mismatches(raw, into) {
		full := append(slices.Clip(path), m.path...)
		var written, text string
		if node := at(d.root, full); node != nil {
			written = node.Value
		}
		switch {
		case written == "":
			text = fmt.Sprintf("must be %s", m.want)
		case m.quote:
			text = fmt.Sprintf("Invalid value: %s: must be %s: write %q", written, m.want, written)
		case m.bare != "":
			text = fmt.Sprintf("Invalid value: %q: must be %s: write %s", written, m.want, m.bare)
		default:
			text = fmt.Sprintf("Invalid value: %s: must be %s", written, m.want)
		}
		wrong = append(wrong, Diagnostic{Line: d.lineOf(full, ""), Object: object, Message: fieldName(full) + ": " + text})
	}
	return wrong
}
