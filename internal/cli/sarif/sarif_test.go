package sarif

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// findings have every form of place that there is.
var findings = []Finding{
	{Level: Error, File: "shop/web service.yaml", Line: 7, Object: "Deployment shop/web", Message: "a"},
	{Level: Warning, File: "/srv/web.yaml", Message: "b"},
	{Level: Warning, File: "https://example.com/web.yaml", Line: 1, Message: "c"},
	{Level: Error, Message: "d"},
}

// TestLogHasWhatTheStandardRequires holds the properties that SARIF 2.1.0 requires, and those that code hosts do besides.
func TestLogHasWhatTheStandardRequires(t *testing.T) {
	for name, of := range map[string][]Finding{"findings": findings, "none": nil} {
		t.Run(name, func(t *testing.T) {
			text, err := json.Marshal(New("kubectl-agentlet", "1.2.3", of))
			if err != nil {
				t.Fatal(err)
			}
			var log map[string]any
			if err := json.Unmarshal(text, &log); err != nil {
				t.Fatal(err)
			}
			if log["version"] != "2.1.0" || log["$schema"] == "" {
				t.Errorf("version %v, schema %v", log["version"], log["$schema"])
			}
			runs := list(t, log, "runs")
			if len(runs) != 1 {
				t.Fatalf("%d runs", len(runs))
			}
			driver := object(t, object(t, runs[0], "tool"), "driver")
			if driver["name"] != "kubectl-agentlet" || driver["version"] != "1.2.3" {
				t.Errorf("%v", driver)
			}
			var ids []string
			for _, rule := range list(t, driver, "rules") {
				if object(t, rule, "shortDescription")["text"] == "" {
					t.Errorf("rule %v has no text", rule["id"])
				}
				ids = append(ids, rule["id"].(string))
			}
			if !slices.Equal(ids, []string{"manifest-error", "manifest-warning"}) {
				t.Errorf("the rules are %q: they are a promise to those who have suppressed one", ids)
			}
			results := list(t, runs[0], "results") // required, even if empty
			if len(results) != len(of) {
				t.Fatalf("%d results of %d", len(results), len(of))
			}
			for i, result := range results {
				index := int(result["ruleIndex"].(float64))
				if result["ruleId"] != ids[index] || result["level"] != string(of[i].Level) || object(t, result, "message")["text"] != of[i].Message {
					t.Errorf("%v", result)
				}
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	want := []string{
		"shop/web%20service.yaml:7 Deployment shop/web", "file:///srv/web.yaml:0 ", "https://example.com/web.yaml:1 ", "none",
	}
	for i, result := range New("p", "v", findings).Runs[0].Results {
		got := "none"
		if len(result.Locations) > 0 {
			at := result.Locations[0]
			var line int
			var object string
			if region := at.PhysicalLocation.Region; region != nil {
				line = region.StartLine
			}
			if len(at.LogicalLocations) > 0 {
				object = at.LogicalLocations[0].FullyQualifiedName
			}
			got = fmt.Sprintf("%s:%d %s", at.PhysicalLocation.ArtifactLocation.URI, line, object)
		}
		if got != want[i] {
			t.Errorf("%q, want %q", got, want[i])
		}
	}
}

func object(t *testing.T, in map[string]any, key string) map[string]any {
	t.Helper()
	found, ok := in[key].(map[string]any)
	if !ok {
		t.Fatalf("%s of %v is no object", key, in)
	}
	return found
}

func list(t *testing.T, in map[string]any, key string) []map[string]any {
	t.Helper()
	found, ok := in[key].([]any)
	if !ok {
		t.Fatalf("%s of %v is no list", key, in)
	}
	objects := make([]map[string]any, len(found))
	for i := range found {
		objects[i], ok = found[i].(map[string]any)
		if !ok {
			t.Fatalf("%v is no object", found[i])
		}
	}
	return objects
}
