package docs

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// defaultsFile has the rules by which the chart checks the values of `defaults`.
const defaultsFile = chartFolder + "files/defaults.yaml"

// rule is what the chart has to know of a key to check its default as the webhook does. The form is the contract's. The bounds
// are asked of the webhook's own validation, by values that it refuses.
type rule struct {
	Form string `yaml:"form"`
	// Default is the value in force without one of the installation's.
	Default string `yaml:"default,omitempty"`
	// Kind is how the value is read: words, duration, port, quantity, tags, labels, meta or metaLabels.
	Kind string `yaml:"kind"`
	// Words are those of a list of words, or what a duration may be instead.
	Words []string `yaml:"words,omitempty"`
	// Least and Most bound a duration, in the form of a duration, and Least a quantity, which may be zero, too.
	Least string `yaml:"least,omitempty"`
	Most  string `yaml:"most,omitempty"`
	// Zero is why a duration may not be zero, where its bounds don't say it.
	Zero string `yaml:"zero,omitempty"`
	// Ports are the first and the last port. Names says that the name of a port will do, and so will `none`.
	Ports []string `yaml:"ports,omitempty,flow"`
	Names bool     `yaml:"names,omitempty"`
	// Reserved are keys of meta that are not for people.
	Reserved []string `yaml:"reserved,omitempty"`
}

var (
	formOfPort  = regexp.MustCompile(`^a port number \(([0-9]+)-([0-9]+)\)`)
	formOfWords = regexp.MustCompile(`^[a-z-]+((, | or )[a-z-]+)+$`)
	betweenOr   = regexp.MustCompile(`, | or `)
	bound       = regexp.MustCompile(`it is (?:less|more) than (\S+)$`)
)

// ruleFor returns the rule for one key.
func ruleFor(key contract.Key) (rule, error) {
	r := rule{Form: key.Form, Default: key.Default}
	short := contract.Short(key.Name)
	refusal := func(value string) string {
		errs := registration.ValidateDefaults(field.NewPath("defaults"), registration.Defaults{short: value})
		if len(errs) == 0 {
			return ""
		}
		return errs[0].Detail
	}
	asked := func(value string) string {
		if found := bound.FindStringSubmatch(refusal(value)); found != nil {
			return found[1]
		}
		return ""
	}
	port := formOfPort.FindStringSubmatch(key.Form)
	switch {
	case strings.HasPrefix(key.Form, "a duration"):
		r.Kind = "duration"
		_, rest, _ := strings.Cut(key.Form, ", or ")
		if rest != "" {
			r.Words = []string{rest}
		}
		if r.Least, r.Most = asked("-1s"), asked("1000000h"); r.Least == "" || r.Most == "" {
			return r, fmt.Errorf("%s: the bounds are not known", short)
		}
		if least, err := time.ParseDuration(r.Least); err == nil && least == 0 {
			_, r.Zero, _ = strings.Cut(refusal("0s"), key.Form+": ")
		}
	case strings.HasPrefix(key.Form, "a quantity"):
		r.Kind = "quantity"
		if r.Least = asked("0.000001"); r.Least == "" {
			return r, fmt.Errorf("%s: the bound is not known", short)
		}
	case port != nil:
		r.Kind, r.Ports, r.Names = "port", port[1:], strings.Contains(key.Form, "name of a declared container port")
	case formOfWords.MatchString(key.Form):
		r.Kind, r.Words = "words", betweenOr.Split(key.Form, -1)
	case strings.HasPrefix(key.Form, "comma-separated key=label"):
		r.Kind, r.Reserved = "metaLabels", contract.MetaKeys()
	case strings.HasPrefix(key.Form, "comma-separated pod label keys"):
		r.Kind = "labels"
	case strings.HasPrefix(key.Form, "key:value"):
		r.Kind, r.Reserved = "meta", contract.MetaKeys()
	case strings.HasPrefix(key.Form, "comma-separated"):
		r.Kind = "tags"
	default:
		return r, fmt.Errorf("%s: the chart can't check a value of the form %q: add a case here, and a template to charts/agentlet/templates/_validate.tpl",
			short, key.Form)
	}
	for _, word := range r.Words {
		if why := refusal(word); why != "" {
			return r, fmt.Errorf("%s: %q is a word of its form, and refused: %s", short, word, why)
		}
	}
	return r, nil
}

// defaultable returns the keys that `defaults` may have.
func defaultable() (keys []contract.Key) {
	for _, key := range contract.Keys() {
		if registration.Defaultable(key.Name) {
			keys = append(keys, key)
		}
	}
	return keys
}

// defaultRules returns the file with the rules for all keys.
func defaultRules() (string, error) {
	rules := map[string]rule{}
	for _, key := range defaultable() {
		r, err := ruleFor(key)
		if err != nil {
			return "", err
		}
		rules[contract.Short(key.Name)] = r
	}
	var text bytes.Buffer
	text.WriteString("# Generated from agentlet/contract: the rules by which templates/_validate.tpl checks the values of `defaults`.\n")
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(rules); err != nil {
		return "", fmt.Errorf("encode the rules: %w", err)
	}
	return text.String(), nil
}
