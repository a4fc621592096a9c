package manifests

import (
	"errors"
	"testing"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// TestYAMLError holds that the line is found in what the YAML libraries say today. Where it fails after an update of theirs,
// their texts have changed, or have got a field for the line: yamlError is to follow.
func TestYAMLError(t *testing.T) {
	toNode := func(text string) error { return yaml.Unmarshal([]byte(text), &yaml.Node{}) }
	toJSON := func(text string) error {
		_, err := kyaml.YAMLToJSON([]byte(text))
		return err
	}
	toMap := func(text string) error { return yaml.Unmarshal([]byte(text), &map[string]int{}) }
	for name, test := range map[string]struct {
		of   func(text string) error
		text string
		line int // of a text that begins at line 11
		want string
	}{
		"syntax":                     {toNode, "a: 1\nb: [\n", 12, "line 12: did not find expected node content"},
		"a value where none is":      {toNode, "a: 1\n b: 2\n c", 12, "line 12: mapping values are not allowed in this context"},
		"no line":                    {toNode, "a: *b\n", 11, "unknown anchor 'b' referenced"},
		"no line, the other library": {toJSON, "a: 1\nb: !!int x\n", 11, "cannot decode !!str `x` as a !!int"},
		"a quoted line":              {toJSON, "a: 1\nb: !!int 'line 7'\n", 11, "cannot decode !!str `line 7` as a !!int"},
		"types":                      {toMap, "a: 1\nb: x\nc: y\n", 12, "unmarshal errors: line 12: cannot unmarshal !!str `x` into int line 13: cannot unmarshal !!str `y` into int"},
		"two lines in one":           {toMap, "a: 1\nb: 2\na: 3\n", 13, `unmarshal errors: line 13: mapping key "a" already defined at line 11`},
		"a line beyond numbers":      {errors.New, "yaml: line 99999999999999999999: x", 11, "line 99999999999999999999: x"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.of(test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if line, text := yamlError(err, 11); line != test.line || text != test.want {
				t.Errorf("line %d: %q, want line %d: %q", line, text, test.line, test.want)
			}
		})
	}
}
