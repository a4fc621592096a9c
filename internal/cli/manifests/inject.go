package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
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
	inParallel(len(f.documents), func(i int) {
		d := f.documents[i]
		if patch := patches[d]; len(patch) > 0 {
			if bodies[i], rewritten[i], errs[i] = d.patched(patch); errs[i] != nil {
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

// patched is the document with the operations done. The patch is applied to JSON, as the API server does it. The text is the
// one nearest to the document that says the same as that JSON: with the additions in their places, or the tree encoded anew with
// its comments, or the JSON itself as YAML. For the last, rewritten is the warning.
func (d *document) patched(operations []jsonpatch.Operation) (text []byte, rewritten string, err error) {
	encoded, err := encodeJSON(operations)
	if err != nil {
		return nil, "", fmt.Errorf("encode patch: %w", err)
	}
	patch, err := jsonpatchv4.DecodePatch(encoded)
	if err != nil {
		return nil, "", fmt.Errorf("decode patch: %w", err)
	}
	want, err := patch.Apply(d.json)
	if err != nil {
		return nil, "", fmt.Errorf("apply patch: %w", err)
	}
	if json.Valid(d.body) {
		text, err := d.editedJSON(encoded, want)
		return text, "", err
	}
	if d.addToTree(encoded) {
		if text, ok := splice(d.body, d.root); ok && d.says(text, want) {
			return text, "", nil
		}
		if text, ok := encodeYAML(d.root, compact(d.root)); ok && d.says(text, want) {
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

// editedJSON is the JSON document with the operations of a JSON patch done to its text, or where they replace something, written
// anew.
func (d *document) editedJSON(patch, want []byte) ([]byte, error) {
	operations, err := additions(patch)
	if err != nil {
		return nil, err
	}
	text, ok := newJSONText(d.body)
	for i := 0; ok && i < len(operations); i++ {
		ok = text.add(operations[i].path, operations[i].value)
	}
	if ok && d.says(text.text, want) {
		return text.text, nil
	}
	var out bytes.Buffer
	if err := json.Indent(&out, want, "", "  "); err != nil {
		return nil, fmt.Errorf("indent JSON: %w", err)
	}
	return append(out.Bytes(), '\n'), nil
}

// addition is an operation of a patch.
type addition struct {
	path  []string
	value json.RawMessage
}

// additions are those of a JSON patch, which has no others.
func additions(patch []byte) (additions []addition, err error) {
	var operations []struct {
		Path  string
		Value json.RawMessage
	}
	if err := json.Unmarshal(patch, &operations); err != nil {
		return nil, fmt.Errorf("decode patch: %w", err)
	}
	for _, o := range operations {
		additions = append(additions, addition{pointerSteps(o.Path), o.Value})
	}
	return additions, nil
}

// says reports whether a text in the document's place is read as the JSON.
func (d *document) says(text, want []byte) bool {
	edited := d.chunk
	edited.body = text
	_, got, wrong := edited.read()
	return wrong == nil && bytes.Equal(canonical(got), canonical(want))
}

// canonical is JSON with its keys sorted, nil for what is none.
func canonical(text []byte) []byte {
	var value any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return nil
	}
	sorted, err := json.Marshal(value)
	if err != nil {
		return nil
	}
	return sorted
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

// addToTree does the operations of a JSON patch to the document's tree; ok is false where the tree doesn't allow it.
func (d *document) addToTree(patch []byte) (ok bool) {
	operations, err := additions(patch)
	if err != nil {
		return false
	}
	for _, o := range operations {
		value, err := blockNode(o.value)
		if err != nil || !addAt(d.root, o.path, value) {
			return false
		}
	}
	return true
}
