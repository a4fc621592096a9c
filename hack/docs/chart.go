package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	chartFolder = "charts/agentlet/"
	schemaFile  = chartFolder + "values.schema.json"
)

// documented begins the comment that describes a value.
const documented = "# --"

// valuesTable returns the table of a chart's values. A comment that begins with documented describes each value.
func valuesTable(values []byte) (string, error) {
	var file yaml.Node
	if err := yaml.Unmarshal(values, &file); err != nil {
		return "", fmt.Errorf("decode values: %w", err)
	}
	t := newTable("value", "meaning", "default")
	if err := t.values("", file.Content[0]); err != nil {
		return "", err
	}
	return t.String(), nil
}

// values adds the values of a mapping: the documented ones, and those inside the others.
func (t *table) values(path string, mapping *yaml.Node) error {
	var problems []error
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		name := path + key.Value
		description, found := describe(key.HeadComment)
		switch {
		case found:
			text, err := compact(value)
			problems = append(problems, err)
			t.row(code(name), description, text)
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			problems = append(problems, t.values(name+".", value))
		default:
			problems = append(problems, fmt.Errorf("line %d: %s has no comment that begins with %q", key.Line, name, documented))
		}
	}
	return errors.Join(problems...)
}

// describe returns a comment's description in one line.
func describe(comment string) (description string, found bool) {
	_, text, found := strings.Cut(comment, documented)
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n#", "\n")), " "), found
}

// compact formats a default in one line.
func compact(value *yaml.Node) (string, error) {
	var decoded any
	if err := value.Decode(&decoded); err != nil {
		return "", fmt.Errorf("line %d: decode: %w", value.Line, err)
	}
	text, err := json.Marshal(decoded)
	if err != nil {
		return "", fmt.Errorf("line %d: encode: %w", value.Line, err)
	}
	return code(string(text)), nil
}

// defaultsSchema matches the part of the chart's schema about the contents of `defaults`.
var defaultsSchema = regexp.MustCompile(`(?ms)^    "defaults": \{$.*?^    \}`)

// fillDefaults writes the contract's keys into the chart's schema, so that Helm rejects other keys before it installs anything.
func fillDefaults(schema string) (string, error) {
	if n := len(defaultsSchema.FindAllString(schema, -1)); n != 1 {
		return "", fmt.Errorf(`"defaults" is there %d times`, n)
	}
	var properties bytes.Buffer
	for _, key := range defaultable() {
		if properties.Len() > 0 {
			properties.WriteByte(',')
		}
		about := map[string]any{"type": "string", "description": key.Doc + "; " + key.Form}
		if r, err := ruleFor(key); err != nil {
			return "", err
		} else if r.Kind == "words" {
			about["enum"] = r.Words
		}
		property, err := json.Marshal(about)
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", key.Name, err)
		}
		fmt.Fprintf(&properties, "%q:%s", contract.Short(key.Name), property)
	}
	var object bytes.Buffer
	if err := json.Indent(&object,
		fmt.Appendf(nil, `{"type":"object","additionalProperties":false,"properties":{%s}}`, &properties), "    ",
		"  "); err != nil {
		return "", fmt.Errorf("indent: %w", err)
	}
	return defaultsSchema.ReplaceAllLiteralString(schema, `    "defaults": `+object.String()), nil
}
