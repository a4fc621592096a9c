package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// asKubectl reads a stream as kubectl's resource builder does: the objects, lists taken apart, or an error.
func asKubectl(stream []byte) (objects []string, err error) {
	decoder := kyaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), jsonWindow)
	for {
		var raw runtime.RawExtension
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		raw.Raw = bytes.TrimSpace(raw.Raw)
		if len(raw.Raw) == 0 || bytes.Equal(raw.Raw, []byte("null")) {
			continue
		}
		object, _, err := unstructured.UnstructuredJSONScheme.Decode(raw.Raw, nil, nil)
		if err != nil {
			return nil, err
		}
		for left := []runtime.Object{object}; len(left) > 0; left = left[1:] {
			if meta.IsListType(left[0]) {
				items, err := meta.ExtractList(left[0])
				if err != nil {
					return nil, err
				}
				left = append(left, items...)
				continue
			}
			object, ok := left[0].(*unstructured.Unstructured)
			if !ok || object.GetKind() == "" {
				return nil, fmt.Errorf("%T of kind %q", left[0], left[0].GetObjectKind().GroupVersionKind().Kind)
			}
			objects = append(objects, told(object.GetAPIVersion(), object.GetKind(), object.GetName(), object.GetNamespace(), object.Object))
		}
	}
}

func told(apiVersion, kind, name, namespace string, value map[string]any) string {
	delete(value, "apiVersion")
	delete(value, "kind")
	text, err := json.Marshal(value)
	return fmt.Sprint(apiVersion, " ", kind, " ", namespace, "/", name, " ", string(text), err)
}

// asHere reads it as the commands do.
func asHere(stream []byte) (objects []string, wrong []Diagnostic) {
	file, wrong := Parse("in", stream)
	for _, d := range file.documents {
		for i := range d.objects {
			o := &d.objects[i]
			var whole any
			if err := utiljson.Unmarshal(d.json, &whole); err != nil {
				wrong = append(wrong, Diagnostic{Message: err.Error()})
				continue
			}
			for _, step := range o.path {
				switch at := whole.(type) {
				case map[string]any:
					whole = at[step]
				case []any:
					i, _ := strconv.Atoi(step)
					whole = at[i]
				}
			}
			value := unstructured.Unstructured{Object: map[string]any{}}
			if object, ok := whole.(map[string]any); ok {
				value.Object = object
			}
			objects = append(objects, told(o.APIVersion, o.Kind, value.GetName(), value.GetNamespace(), value.Object))
		}
	}
	return objects, wrong
}

func TestReadsWhatKubectlReads(t *testing.T) {
	const (
		one = `{"apiVersion": "v1", "kind": "A", "metadata": {"name": "one"}}`
		two = `{"apiVersion": "v1", "kind": "B", "metadata": {"name": "two"}}`
	)
	for name, test := range map[string]struct {
		stream string
		want   int
		fails  bool
	}{
		"one":                                  {"kind: A\n", 1, false},
		"two":                                  {"kind: A\n---\nkind: B\n", 2, false},
		"JSON":                                 {one, 1, false},
		"a stream of JSON":                     {one + "\n" + two + "\n", 2, false},
		"on one line":                          {one + two, 2, false},
		"behind blanks":                        {" \n\t" + one + " \n\n " + two + "\n \n", 2, false},
		"more than two":                        {one + two + one + two, 4, false},
		"null among JSON":                      {one + " null " + two, 2, false},
		"a number among JSON":                  {one + " 5", 0, true},
		"JSON, then YAML":                      {one + "\n---\nkind: B\n---\nkind: C\n", 3, false},
		"JSON, then a separator on its line":   {one + " ---\nkind: B\n", 2, false},
		"JSON twice, then YAML":                {one + two + "\n---\nkind: C\n", 0, true},
		"JSON documents":                       {one + "\n---\n" + two + "\n", 2, false},
		"YAML, then two of JSON":               {"kind: A\n---\n" + one + "\n" + two + "\n", 0, true},
		"JSON that ends":                       {one[:20], 0, true},
		"JSON with a comma too many":           {"{\n\"kind\": \"A\",\n}\n", 1, false}, // is YAML
		"braces, but YAML":                     {"{kind: A}\n", 1, false},
		"a document behind dots":               {"kind: A\n...\nkind: B\n", 0, true},
		"dots at the end":                      {"kind: A\n...\n", 1, false},
		"dots before a separator":              {"kind: A\n...\n---\nkind: B\n", 2, false},
		"a document on the separator's line":   {"--- {kind: A}\n", 0, true},
		"four dashes":                          {"kind: A\n----\n", 0, true},
		"a comment after a separator":          {"--- # one\nkind: A\n", 1, false},
		"a directive":                          {"%YAML 1.1\n---\nkind: A\n", 0, true},
		"carriage returns":                     {"kind: A\r\n---\r\nkind: B\r\n", 2, false},
		"a byte-order mark":                    {"\ufeffkind: A\n", 1, false},
		"a comment that is no UTF-8":           {"# \xaa\n", 0, true},
		"a block without a line's end":         {"kind: A\na: |\n  x", 1, false},
		"a byte-order mark within":             {"---\n\ufeff\n---\nkind: A\n", 0, true},
		"comments alone":                       {"# a\n---\n# b\n", 0, false},
		"no kind":                              {"a: 1\n", 0, true},
		"an API version that is none":          {"apiVersion: a/b/c\nkind: A\n", 0, true},
		"a text":                               {"a\n", 0, true},
		"a list of a kind":                     {"apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: a}\n  spec: {template: {}}\n", 1, false},
		"a List":                               {"apiVersion: v1\nkind: List\nitems:\n- kind: A\n- {kind: B, apiVersion: b/v1}\n", 2, false},
		"a List of one without a kind":         {"apiVersion: v1\nkind: List\nitems:\n- {a: 1}\n", 0, true},
		"a list without items":                 {"kind: AList\nitems:\n", 0, false},
		"an object with items":                 {"kind: A\nitems: [{kind: B}]\n", 1, false},
		"a List of Lists":                      {"kind: List\nitems: [{kind: List, items: [{kind: A}, {kind: B}]}, {kind: C}]\n", 0, true},
		"items that are no list":               {"kind: AList\nitems: {a: 1}\n", 0, true},
		"keys in capitals":                     {"Kind: A\n", 0, true},
		"a JSON escape that YAML doesn't have": {`{"kind": "A", "a": "\ud83d\ude00 \/ <&>"}`, 1, false},
		"numbers":                              {`{"kind": "A", "a": 12345678901234567890, "b": 1e3, "c": 1.0}`, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, err := asKubectl([]byte(test.stream))
			ours, wrong := asHere([]byte(test.stream))
			if test.fails {
				if len(wrong) == 0 {
					t.Fatalf("no error, but %v; kubectl: %v, %v", ours, theirs, err)
				}
				return
			}
			if err != nil || len(wrong) > 0 || len(ours) != test.want {
				t.Fatalf("%v, %v; kubectl: %v", ours, wrong, err)
			}
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("(-kubectl +here):\n%s", diff)
			}
		})
	}
}

// Outputs of several files are read by one kubectl.
func TestKubectlReadsWhatIsJoined(t *testing.T) {
	const object = `{"kind":"A"}`
	for name, test := range map[string]struct {
		outputs []string
		want    int
	}{
		"one stream of JSON":           {[]string{object + object + object}, 3},
		"streams of JSON":              {[]string{object + "\n" + object, object + "\n", object + object}, 5},
		"a stream of JSON, and YAML":   {[]string{object + object, "kind: B\n"}, 3},
		"YAML, and a stream of JSON":   {[]string{"kind: B", object + object + object}, 4},
		"JSON, and YAML, and JSON":     {[]string{object, "---\nkind: B\n", object + "\n---\n" + object}, 4},
		"comments, and YAML":           {[]string{"# a", "kind: B\n"}, 1},
		"YAML that ends with dots":     {[]string{"kind: A\n...\n", "kind: B\n"}, 2},
		"YAML with separators":         {[]string{"---\nkind: A\n", "---\nkind: B\n---\n"}, 2},
		"nothing, and a stream of two": {[]string{"", object + object}, 2},
	} {
		var outputs [][]byte
		for _, output := range test.outputs {
			outputs = append(outputs, []byte(output))
		}
		if objects, err := asKubectl(Join(outputs)); err != nil || len(objects) != test.want {
			t.Errorf("%s: %v, %v, want %d objects of %q", name, objects, err, test.want, Join(outputs))
		}
	}
}

// FuzzReadsAsKubectl holds that any stream gives the objects that kubectl reads in it, or an error.
func FuzzReadsAsKubectl(f *testing.F) {
	for _, pattern := range []string{"testdata/*.yaml", "../../../cmd/kubectl-agentlet/testdata/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatal(paths, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	for _, seed := range []string{
		`{"kind":"A"}{"kind":"B"}`, "{\"kind\":\"A\"}\n---\nkind: B\n...\nkind: C\n", "--- # x\nkind: A\r\n", "kind: AList\nitems: [{a: 1}]\n", "{kind: A}\n{kind: B}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(compareWithKubectl)
}

func compareWithKubectl(t *testing.T, stream []byte) {
	t.Helper()
	theirs, err := asKubectl(stream)
	ours, wrong := asHere(stream)
	switch {
	case len(wrong) > 0:
	case err != nil:
		t.Errorf("%q: kubectl says %v, here it is %v", stream, err, ours)
	default:
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%q (-kubectl +here):\n%s", stream, diff)
		}
	}
}

// TestReadsAsKubectlWhateverIsPutTogether holds the same for streams of parts that matter, which a fuzzer takes long to find.
func TestReadsAsKubectlWhateverIsPutTogether(t *testing.T) {
	parts := []string{
		"kind: A\n", "kind: B\r\n", `{"kind":"C"}`, `{"kind":"D","a":1.0}`, "{kind: E}", "---\n", "---", "--- ", "...\n", "...", "\n", "\r\n", " ", "\t",
		"# x\n", "#", "%YAML 1.1\n", "\ufeff", "null", "5", "[]", "{}", "apiVersion: v1\n", "items:\n", "- kind: F\n", "- {a: 1}\n", "kind: GList\n", "a: |\n",
		"  x\n", "a: &a {b: 1}\n", "c: *a\n", `"`, ",", "\u00a0", "\u2028", "\x00", "\xff", "kind: ", "A", "!!str ", "? ", ": ",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		var stream []byte
		for range 1 + random.IntN(6) {
			stream = append(stream, parts[random.IntN(len(parts))]...)
		}
		compareWithKubectl(t, stream)
	}
}
