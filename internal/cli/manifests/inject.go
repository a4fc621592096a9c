package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"gomodules.xyz/jsonpatch/v2"
	jsonpatchv4 "gopkg.in/evanphx/json-patch.v4"
	kyaml "sigs.k8s.io/yaml"
)

// Injected writes the file as the webhook would make it: each judgement's patch is applied to its pod or template. What
// nobody patched is as it was read. Warnings are about documents that lost their comments. The file is spent then.
func (f *File) Injected(judgements []Result) (text []byte, warnings []Diagnostic, err error) {
	patches := map[*document][]jsonpatch.Operation{}
	for i := range judgements {
		j := &judgements[i]
		patches[j.document] = append(patches[j.document], below(j.path, j.Patch)...)
	}
	bodies, errs := make([][]byte, len(f.documents)), make([]error, len(f.documents))
	rewritten := make([]string, len(f.documents))
	var writer blockWriter
	inParallel(len(f.documents), func(i int) {
		d := f.documents[i]
		if patch := patches[d]; len(patch) > 0 {
			if bodies[i], rewritten[i], errs[i] = d.patched(patch, &writer); errs[i] != nil {
				errs[i] = fmt.Errorf("patch document at %s:%d: %w", f.Name, d.line, errs[i])
			}
			d.root, d.json = nil, nil // the tree is spent, and thousands of them are much memory
		}
	})
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	for i, d := range f.documents {
		if rewritten[i] != "" {
			warnings = append(warnings, Diagnostic{File: f.Name, Line: d.line, Message: rewritten[i]})
		}
		out.Write(d.separator)
		if bodies[i] == nil {
			out.Write(d.body)
			continue
		}
		out.Write(bodies[i])
	}
	return out.Bytes(), warnings, nil
}

// inParallel does something for every number below n, several at once.
func inParallel(n int, do func(i int)) {
	var group sync.WaitGroup
	var next atomic.Int64
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	group.Wait()
}

// Join puts outputs of several files into one stream that kubectl reads: JSON objects one after the other, or if there is
// anything else, documents with separators.
func Join(outputs [][]byte) []byte {
	if len(outputs) == 1 {
		return outputs[0]
	}
	var chunks []chunk
	allJSON := true
	for _, out := range outputs {
		for _, c := range split(out) {
			chunks = append(chunks, c)
			allJSON = allJSON && c.isJSON
		}
	}
	var joined []byte
	for _, c := range chunks {
		if len(joined) > 0 && !bytes.HasSuffix(joined, []byte("\n")) {
			joined = append(joined, '\n')
		}
		if len(joined) > 0 && !allJSON && len(c.separator) == 0 {
			joined = append(joined, separator+"\n"...)
		}
		joined = append(append(joined, c.separator...), c.body...)
	}
	return joined
}

// below turns the operations of a pod into those of the document that holds it.
func below(path []string, patch []jsonpatch.Operation) []jsonpatch.Operation {
	if len(path) == 0 {
		return patch
	}
	moved := slices.Clone(patch)
	for i := range moved {
		moved[i].Path = "/" + strings.Join(path, "/") + moved[i].Path
	}
	return moved
}

// patched is the document with the operations done. They are done to JSON, as the API server does it. The text is the one nearest
// to the document that says the same as that JSON: with the additions in their places, or the tree encoded anew with its
// comments, or the JSON itself as YAML. For the last, rewritten is the warning.
func (d *document) patched(operations []jsonpatch.Operation, writer *blockWriter) (text []byte, rewritten string, err error) {
	additions, err := additionsOf(operations)
	if err != nil {
		return nil, "", err
	}
	if json.Valid(d.body) {
		text, err := d.editedJSON(additions)
		return text, "", err
	}
	want, err := withAdditions(d.json, additions)
	if err != nil {
		return nil, "", fmt.Errorf("apply patch: %w", err)
	}
	if d.addToTree(additions) {
		if text, ok := splice(d.body, d.root, writer); ok && d.saysYAML(text, want) {
			return text, "", nil
		}
		if text, ok := encodeYAML(d.root, compact(d.root)); ok && d.saysYAML(text, want) {
			return d.withNewlines(text), "", nil
		}
	}
	rewritten = "the document is written anew, without its comments"
	if shared(d.root) {
		rewritten += ` and anchors: what is added would also be added where an alias or "<<" repeats its place; write that out to keep them`
	}
	text, err = kyaml.JSONToYAML(want)
	if err != nil {
		return nil, "", fmt.Errorf("encode document: %w", err)
	}
	return d.withNewlines(text), rewritten, nil
}

// withNewlines gives a text that was written anew the document's line ends.
func (d *document) withNewlines(text []byte) []byte {
	if !bytes.Contains(d.body, []byte("\r\n")) {
		return text
	}
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}

// editedJSON is the JSON document with the additions in its text, or where they replace something, written anew.
func (d *document) editedJSON(additions []addition) ([]byte, error) {
	encoded, err := encodeJSON(additions)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	patch, err := jsonpatchv4.DecodePatch(encoded)
	if err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	want, err := patch.Apply(d.json)
	if err != nil {
		return nil, fmt.Errorf("apply patch: %w", err)
	}
	text, ok := newJSONText(d.body)
	for i := 0; ok && i < len(additions); i++ {
		ok = text.add(pointerSteps(additions[i].Path), additions[i].Value)
	}
	if ok && d.says(text.text, want) {
		return text.text, nil
	}
	var out bytes.Buffer
	if err := json.Indent(&out, want, "", "  "); err != nil {
		return nil, fmt.Errorf("indent JSON: %w", err)
	}
	return d.withNewlines(append(out.Bytes(), '\n')), nil
}

// addition is an operation of a patch, which has no others.
type addition struct {
	Operation string          `json:"op"`
	Path      string          `json:"path"`
	Value     json.RawMessage `json:"value"`
}

// additionsOf encodes the values of a patch. Each is encoded once here, where the library does it twice.
func additionsOf(operations []jsonpatch.Operation) ([]addition, error) {
	additions := make([]addition, len(operations))
	for i, o := range operations {
		value, err := json.Marshal(o.Value)
		if err != nil {
			return nil, fmt.Errorf("encode patch: %w", err)
		}
		additions[i] = addition{o.Operation, o.Path, value}
	}
	return additions, nil
}

// withAdditions is a JSON document with additions, in its canonical form. A patch's library does the same, more slowly: it keeps
// the order of keys, which YAML has from the text.
func withAdditions(document []byte, additions []addition) ([]byte, error) {
	value, err := decodeJSON(document)
	if err != nil {
		return nil, err
	}
	for _, a := range additions {
		added, err := decodeJSON(a.Value)
		if err != nil {
			return nil, err
		}
		if value, err = withValue(value, pointerSteps(a.Path), added); err != nil {
			return nil, fmt.Errorf("%s %s: %w", a.Operation, a.Path, err)
		}
	}
	return json.Marshal(value)
}

var errNoPlace = errors.New("the document has no such place")

// withValue is a decoded value with another one at a path in it, which it need not have yet. In a list that is an insertion.
func withValue(into any, path []string, added any) (any, error) {
	if len(path) == 0 {
		return added, nil
	}
	step, last := path[0], len(path) == 1
	switch into := into.(type) {
	case map[string]any:
		inner, there := into[step]
		if !there && !last {
			return nil, errNoPlace
		}
		changed, err := withValue(inner, path[1:], added)
		into[step] = changed
		return into, err
	case []any:
		if last && step == "-" {
			return append(into, added), nil
		}
		i, err := strconv.Atoi(step)
		switch {
		case err != nil || i < 0 || i > len(into) || i == len(into) && !last:
			return nil, errNoPlace
		case last:
			return slices.Insert(into, i, added), nil
		}
		into[i], err = withValue(into[i], path[1:], added)
		return into, err
	}
	return nil, errNoPlace
}

// says reports whether a text in the document's place is read as the JSON.
func (d *document) says(text, want []byte) bool {
	edited := d.chunk
	edited.body = text
	_, got, wrong := edited.read()
	return wrong == nil && bytes.Equal(canonical(got), canonical(want))
}

// saysYAML does the same for what was added to a YAML document, and canonical JSON. It reads the text as kubectl does, and makes
// no tree of it: this is most of the work on a document. The document's own tree was made, so it is one document in which no
// key is twice; what was added begins no other one, and a key that is added is not there yet.
func (d *document) saysYAML(text, want []byte) bool {
	edited := d.chunk
	edited.body = text
	got, err := edited.yamlValue(edited.yamlText())
	// What kubectl's library encodes is in its canonical form, but for bytes that are no UTF-8.
	return err == nil && (bytes.Equal(got, want) || bytes.Equal(canonical(got), want))
}

// canonical is JSON with its keys sorted, nil for what is none.
func canonical(text []byte) []byte {
	value, err := decodeJSON(text)
	if err != nil {
		return nil
	}
	sorted, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return sorted
}

// decodeJSON decodes any value. Numbers stay as they are written.
func decodeJSON(text []byte) (value any, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	err = decoder.Decode(&value)
	return value, err
}

// unescape is what a JSON pointer's escapes stand for.
var unescape = strings.NewReplacer("~1", "/", "~0", "~")

// pointerSteps are those of a JSON pointer.
func pointerSteps(pointer string) []string {
	path := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i := range path {
		path[i] = unescape.Replace(path[i])
	}
	return path
}

// addToTree makes the additions to the document's tree; ok is false where the tree doesn't allow it.
func (d *document) addToTree(additions []addition) (ok bool) {
	for _, a := range additions {
		value, err := blockNode(a.Value)
		if err != nil || !addAt(d.root, pointerSteps(a.Path), value) {
			return false
		}
	}
	return true
}
