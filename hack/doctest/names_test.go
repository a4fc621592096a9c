package doctest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var (
	keyName   = regexp.MustCompile(`(?:^|[^.\w])(agentlet\.dev/[a-z0-9.-]*[a-z0-9])`) // not of a subdomain, such as the plugin's reports have
	valueName = regexp.MustCompile(`^[a-z]\w*(?:\.\w+)+(?:[=: ]|$)`)
)

// TestNamedKeysAreOfTheContract checks that every annotation, label and condition that a page names exists.
func TestNamedKeysAreOfTheContract(t *testing.T) {
	found := 0
	known := func(place, text string) {
		for _, match := range keyName.FindAllStringSubmatch(text, -1) {
			key := match[1]
			found++
			_, _, ok := contract.Lookup(key)
			if !ok && !slices.Contains([]string{contract.AllowedServices, contract.AllowedTags, contract.Condition}, key) {
				t.Errorf("%s: no key %s", place, key)
			}
		}
	}
	for _, page := range all(t) {
		for _, code := range page.Code {
			known(page.Path, code.Text)
		}
		for _, block := range page.Blocks {
			if block.Kind() != "yaml pod warned" && block.Language != "text" { // these blocks show errors
				known(block.Place(), block.Text)
			}
		}
	}
	if found < 30 {
		t.Errorf("%d keys were found", found)
	}
}

// schema contains the fields of the chart's JSON schema that the tests read.
type schema struct {
	Properties map[string]schema `json:"properties"`
}

// has reports whether the schema contains a dotted path, or ends with an unspecified object before.
func (s schema) has(path []string) bool {
	if len(path) == 0 || s.Properties == nil {
		return true
	}
	below, ok := s.Properties[path[0]]
	return ok && below.has(path[1:])
}

// foreign are values below global that pages name of other charts: HashiCorp's and Istio's.
var foreign = regexp.MustCompile(`^global[.](acls|openshift|proxy|tls)[.]`)

// TestNamedValuesAreOfTheChart checks that every chart value that a page names, such as consul.acl.mode, exists.
func TestNamedValuesAreOfTheChart(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "charts/agentlet/values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var values schema
	if err := json.Unmarshal(data, &values); err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range all(t) {
		for _, code := range page.Code {
			path := strings.Split(strings.TrimRight(valueName.FindString(code.Text), "=: "), ".")
			if _, ours := values.Properties[path[0]]; !ours || strings.Contains(code.Text, "/") || foreign.MatchString(code.Text) {
				continue
			}
			found++
			if !values.has(path) {
				t.Errorf("%s:%d: the chart has no value %s", page.Path, code.Line, strings.Join(path, "."))
			}
		}
	}
	if found < 30 {
		t.Errorf("%d values were found", found)
	}
}
