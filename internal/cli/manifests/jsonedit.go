package manifests

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// jsonText is a JSON document that is edited in its text, so that whatever is not added stays as it is written.
type jsonText struct {
	text []byte
	root *jsonValue
}

// jsonValue is where a value stands.
type jsonValue struct {
	start, end int // the text's bytes
	list       bool
	// members of an object, or items of a list, in their order; keys are the members'.
	members []*jsonValue
	keys    []string
}

func newJSONText(text []byte) (*jsonText, bool) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	t := &jsonText{text: text}
	t.root = t.next(decoder)
	return t, t.root != nil
}

// next is the decoder's next value, nil at the end of a list or an object, or of the text.
func (t *jsonText) next(decoder *json.Decoder) *jsonValue {
	start := int(decoder.InputOffset())
	token, err := decoder.Token()
	if err != nil {
		return nil
	}
	start += len(t.text[start:]) - len(bytes.TrimLeft(t.text[start:], " \t\r\n,:"))
	v := &jsonValue{start: start}
	if delim, ok := token.(json.Delim); ok {
		switch delim {
		case '{':
			for decoder.More() {
				key, _ := decoder.Token()
				name, _ := key.(string)
				v.keys = append(v.keys, name)
				v.members = append(v.members, t.next(decoder))
			}
		case '[':
			v.list = true
			for decoder.More() {
				v.members = append(v.members, t.next(decoder))
			}
		default:
			return nil
		}
		if _, err := decoder.Token(); err != nil {
			return nil
		}
	}
	v.end = int(decoder.InputOffset())
	return v
}

// add does a JSON patch's "add" of something new, or of a text or number instead of one; ok is false where the text doesn't allow
// it.
func (t *jsonText) add(path []string, value []byte) (ok bool) {
	if len(path) == 0 {
		return false
	}
	if len(path) > 2 && path[0] == "items" {
		return t.addToItem(path[1:], value)
	}
	into := t.root
	for _, step := range path[:len(path)-1] {
		i := into.index(step)
		if i < 0 || i >= len(into.members) {
			return false
		}
		into = into.members[i]
	}
	if !isComposite(t.text[into.start]) {
		return false
	}
	last, i := path[len(path)-1], len(into.members)
	if into.list {
		if last != "-" {
			i = into.index(last)
		}
		if i < 0 || i > len(into.members) {
			return false
		}
		last = ""
	} else if i := into.index(last); i >= 0 {
		old := into.members[i]
		if isComposite(t.text[old.start]) || isComposite(value[0]) {
			return false
		}
		t.text = slices.Concat(t.text[:old.start], value, t.text[old.end:])
		return t.reread()
	}
	t.insert(into, i, last, value)
	return t.reread()
}

func isComposite(first byte) bool { return first == '{' || first == '[' }

// reread reads the text that was edited.
func (t *jsonText) reread() (ok bool) {
	edited, ok := newJSONText(t.text)
	if ok {
		t.root = edited.root
	}
	return ok
}

// addToItem edits an item of a list by itself: to read the whole list again for each addition would take minutes for a long one.
// A list has no additions elsewhere, so of the other values only the items' places are kept right.
func (t *jsonText) addToItem(path []string, value []byte) (ok bool) {
	at := t.root.index("items")
	if at < 0 {
		return false
	}
	items := t.root.members[at]
	i := items.index(path[0])
	if !items.list || i < 0 || i >= len(items.members) {
		return false
	}
	item := items.members[i]
	alone, ok := newJSONText(t.text[item.start:item.end])
	if !ok || !alone.add(path[1:], value) {
		return false
	}
	longer := len(alone.text) - (item.end - item.start)
	t.text = slices.Concat(t.text[:item.start], alone.text, t.text[item.end:])
	item.end += longer
	for _, later := range items.members[i+1:] {
		later.start += longer
		later.end += longer
	}
	return true
}

// index is that of a member or item, -1 where there is none.
func (v *jsonValue) index(step string) int {
	if !v.list {
		return slices.Index(v.keys, step)
	}
	i, err := strconv.Atoi(step)
	if err != nil {
		return -1
	}
	return i
}

// insert writes a value before the i-th of an object's or a list's. Where each stands on a line of its own, so does the new one.
func (t *jsonText) insert(into *jsonValue, i int, key string, value []byte) {
	var before []byte
	if len(into.members) > 0 {
		inside := t.text[into.start+1:]
		before = inside[:len(inside)-len(bytes.TrimLeft(inside, " \t\r\n"))]
	}
	newline := bytes.LastIndexByte(before, '\n')
	var item bytes.Buffer
	if !into.list {
		item.Write(append(quoted(key), ':'))
		if newline >= 0 {
			item.WriteByte(' ')
		}
	}
	if newline >= 0 {
		_ = json.Indent(&item, value, string(before[newline+1:]), "  ") // it is JSON: the text is read again
	} else {
		item.Write(value)
	}
	text, comma := item.Bytes(), append([]byte(","), before...)
	if bytes.HasSuffix(before[:newline+1], []byte("\r\n")) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	if newline < 0 && bytes.Contains(t.text, []byte(`": `)) {
		text, comma = spaced(text), []byte(", ")
	}
	switch {
	case len(into.members) == 0:
		t.splice(into.start+1, text)
	case i == 0:
		t.splice(into.start+1+len(before), text, comma)
	default:
		t.splice(into.members[i-1].end, comma, text)
	}
}

// spaced is compact JSON with a blank behind each comma and each colon.
func spaced(value []byte) (out []byte) {
	inText := false
	for i, c := range value {
		if out = append(out, c); c == '"' && (i == 0 || !inText || !escaped(value[:i])) {
			inText = !inText
		}
		if !inText && (c == ',' || c == ':') {
			out = append(out, ' ')
		}
	}
	return out
}

// escaped reports whether what follows a text is escaped by its end.
func escaped(text []byte) bool {
	return (len(text)-len(bytes.TrimRight(text, `\`)))%2 == 1
}

// splice puts texts at a place of the text.
func (t *jsonText) splice(at int, texts ...[]byte) {
	t.text = slices.Concat(t.text[:at], slices.Concat(texts...), t.text[at:])
}

// quoted is a text in JSON.
func quoted(text string) []byte {
	encoded, _ := encodeJSON(text) // a text can always be
	return encoded
}

// encodeJSON is JSON as people write it: with <, > and & as themselves.
func encodeJSON(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSpace(out.Bytes()), err
}
