package docs

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestEveryValueIsDescribed(t *testing.T) {
	for name, test := range map[string]struct{ values, want, err string }{
		"plain":       {values: "# -- A.\na: 1\n", want: "| `a` | A. | `1` |"},
		"two lines":   {values: "# -- A\n# or B.\na: x\n", want: "| `a` | A or B. | `\"x\"` |"},
		"inner":       {values: "a:\n  # -- B.\n  b: []\n", want: "| `a.b` | B. | `[]` |"},
		"as one":      {values: "# -- A.\na: {b: 1}\n", want: "| `a` | A. | `{\"b\":1}` |"},
		"undescribed": {values: "a:\n  b: 1\nc: 2\n", err: "a.b has no comment"},
		"all at once": {values: "a:\n  b: 1\nc: 2\n", err: "c has no comment"},
		"empty":       {values: "a: {}\n", err: "a has no comment"},
		"no YAML":     {values: ": :", err: "decode values"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := valuesTable([]byte(test.values))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("no %s in\n%s", test.want, got)
			}
		})
	}
}

// schema contains the fields of a JSON schema that the tests read.
type schema struct {
	Properties           map[string]schema `json:"properties"`
	AdditionalProperties any               `json:"additionalProperties"`
}

// TestTheSchemaKnowsTheValues checks that values.yaml and its schema have the same keys, so that Helm rejects typos.
func TestTheSchemaKnowsTheValues(t *testing.T) {
	var top schema
	values := map[string]any{}
	for name, into := range map[string]any{"values.schema.json": &top, "values.yaml": &values} {
		data, err := os.ReadFile(filepath.Join(root, chartFolder, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(data, into); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "", &top, values)
}

func same(t *testing.T, path string, s *schema, values map[string]any) {
	t.Helper()
	if len(s.Properties) == 0 {
		return
	}
	if s.AdditionalProperties != false && path != "global." { // which is the values' of all charts together
		t.Errorf("the schema lets anything be in %q", path)
	}
	for key, value := range values {
		inner, known := s.Properties[key]
		if !known {
			t.Errorf("the schema doesn't know %s", path+key)
		}
		if mapping, ok := value.(map[string]any); ok {
			same(t, path+key+".", &inner, mapping)
		}
	}
	if len(values) == 0 {
		return // a map whose default is empty
	}
	if path == "resources." {
		return // Kubernetes defines the contents
	}
	for _, key := range slices.Sorted(maps.Keys(s.Properties)) {
		if _, known := values[key]; !known {
			t.Errorf("values.yaml doesn't have %s", path+key)
		}
	}
}

// TestChartLinks checks that the chart's page in a registry leads to what this repository has.
func TestChartLinks(t *testing.T) {
	var chart struct {
		Home, Icon  string
		Sources     []string
		Annotations map[string]string
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if err := yaml.Unmarshal(read(chartFolder+"Chart.yaml"), &chart); err != nil {
		t.Fatal(err)
	}
	module, _, _ := strings.Cut(string(read("go.mod")), "\n")
	home := "https://" + strings.TrimPrefix(module, "module ")
	if chart.Home != home || !slices.Equal(chart.Sources, []string{home}) {
		t.Errorf("home %s, sources %q: want %s", chart.Home, chart.Sources, home)
	}
	icon, raw := strings.CutPrefix(chart.Icon, strings.Replace(home, "//github.com/", "//raw.githubusercontent.com/", 1)+"/HEAD/")
	if !raw || !strings.Contains(string(read(icon)), "<svg") {
		t.Errorf("icon %s", chart.Icon)
	}
	var links []struct{ Name, URL string }
	if err := yaml.Unmarshal([]byte(chart.Annotations["artifacthub.io/links"]), &links); err != nil || len(links) == 0 {
		t.Fatalf("%d links, %v", len(links), err)
	}
	for _, link := range links {
		if page, found := strings.CutPrefix(link.URL, home+"/blob/HEAD/"); found {
			read(page)
		} else if link.URL != home+"/issues" || link.Name == "" {
			t.Errorf("link %q to %s", link.Name, link.URL)
		}
	}
}

// TestNamespaceOverride checks that no object is in, or names, the release's namespace where the chart has another one.
func TestNamespaceOverride(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*.yaml", "tests/*.yaml"} {
		found, err := filepath.Glob(filepath.Join(root, chartFolder, "templates", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), ".Release.Namespace") {
			t.Errorf("%s has .Release.Namespace: want agentlet.namespace", filepath.Base(file))
		}
	}
}

func TestFillDefaults(t *testing.T) {
	filled, err := fillDefaults("{\n    \"defaults\": {\n      \"old\": 1\n    }\n}")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(filled, `"once",`) {
		t.Errorf("the words of gate-policy are missing:\n%s", filled)
	}
	var got struct {
		Defaults schema `json:"defaults"`
	}
	if err := json.Unmarshal([]byte(filled), &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got.Defaults.Properties["drain-delay"]; !ok || got.Defaults.AdditionalProperties != false {
		t.Errorf("filled: %+v", got.Defaults)
	}
	for _, pods := range []string{"service-names", "services", "inject", "allowed-services", "allowed-tags"} {
		if _, ok := got.Defaults.Properties[pods]; ok {
			t.Errorf("%s is a pod's own to say", pods)
		}
	}
	if _, err := fillDefaults("{}"); err == nil {
		t.Error("a schema without defaults is filled")
	}
}
