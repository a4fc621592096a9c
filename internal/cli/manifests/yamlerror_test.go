package manifests

import (
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
	for name, test := range map[string]struct {
		of   func(text string) error
		text string
		line int
		want string
	}{
		"syntax":                     {toNode, "a: 1\nb: [\n", 2, "did not find expected node content"},
		"a value where none is":      {toNode, "a: 1\n b: 2\n c", 2, "mapping values are not allowed in this context"},
		"the other library":          {toJSON, "a: 1\n b: 2\n c", 2, "mapping values are not allowed in this context"},
		"no line":                    {toNode, "a: *b\n", 0, "unknown anchor 'b' referenced"},
		"no line, the other library": {toJSON, "a: 1\nb: !!int x\n", 0, "cannot decode !!str `x` as a !!int"},
		"a quoted line":              {toJSON, "a: 1\nb: !!int 'line 7'\n", 0, "cannot decode !!str `line 7` as a !!int"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.of(test.text)
			if err == nil {
				t.Fatal("no error")
			}
			if line, text := yamlError(err); line != test.line || text != test.want {
				t.Errorf("line %d: %q, want line %d: %q", line, text, test.line, test.want)
			}
		})
	}
}
