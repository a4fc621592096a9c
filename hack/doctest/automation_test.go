package doctest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"sigs.k8s.io/yaml"
)

// workflow is what is checked of a file of .github/workflows, beside what actionlint does.
type workflow struct {
	Jobs map[string]struct {
		Uses           string `json:"uses"`
		TimeoutMinutes int    `json:"timeout-minutes"`
		Steps          []struct {
			Uses string            `json:"uses"`
			With map[string]any    `json:"with"`
			Env  map[string]string `json:"env"`
			Run  string            `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

var (
	// official matches an action of GitHub's own at a major version.
	official = regexp.MustCompile(`^actions/[a-z-]+@v[0-9]+$`)
	// calls matches what make is called with in a script.
	calls = regexp.MustCompile(`\bmake ([a-z0-9-]+(?: [A-Z_]+=\S*)*)`)
)

// TestWorkflows checks that the workflows call what the Makefile has, and run nobody else's code.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	called := map[string]bool{}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var w workflow
			if err := yaml.Unmarshal(text, &w); err != nil {
				t.Fatal(err)
			}
			for name, job := range w.Jobs {
				if job.Uses == "" && job.TimeoutMinutes == 0 {
					t.Errorf("job %s has no timeout-minutes", name)
				}
				for _, step := range job.Steps {
					if step.Uses != "" && !official.MatchString(step.Uses) {
						t.Errorf("job %s uses %s: want one such as actions/checkout@v6", name, step.Uses)
					}
					if strings.HasPrefix(step.Uses, "actions/checkout@") && step.With["persist-credentials"] != false {
						t.Errorf("job %s leaves git's credentials on the disk: want persist-credentials: false", name)
					}
					for variable, value := range step.Env {
						if strings.Contains(value, "secrets.") && calls.MatchString(step.Run) {
							t.Errorf("job %s calls make with the secret %s in its environment: want that in a step of its own", name, variable)
						}
					}
					for _, call := range calls.FindAllStringSubmatch(step.Run, -1) {
						words := strings.Fields(call[1])
						called[words[0]] = true
						if err := checkMake(t, words); err != nil {
							t.Errorf("job %s: %v", name, err)
						}
					}
				}
			}
		})
	}
	for _, target := range []string{"lint", "verify", "unit", "chart", "scenarios", "vulncheck", "release", "latest", "publish"} {
		if !called[target] {
			t.Errorf("no workflow calls make %s", target)
		}
	}
}

// TestRenovateFollowsTools checks that Renovate is told of each tool that it would leave alone, and of no other module.
func TestRenovateFollowsTools(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "renovate.json"))
	if err != nil {
		t.Fatal(err)
	}
	var renovate struct {
		IgnorePaths  []string `json:"ignorePaths"`
		PackageRules []struct {
			MatchDepTypes     []string `json:"matchDepTypes"`
			MatchFileNames    []string `json:"matchFileNames"`
			MatchPackageNames []string `json:"matchPackageNames"`
		} `json:"packageRules"`
	}
	if err := json.Unmarshal(text, &renovate); err != nil {
		t.Fatal(err)
	}
	if renovate.IgnorePaths == nil || len(renovate.IgnorePaths) > 0 {
		t.Errorf("ignorePaths are %q: want none, as those of config:recommended have examples/", renovate.IgnorePaths)
	}
	var told []string
	for _, rule := range renovate.PackageRules {
		for _, file := range rule.MatchFileNames {
			if found, err := filepath.Glob(filepath.Join(root, strings.TrimSuffix(file, "/**"))); err != nil || len(found) == 0 {
				t.Errorf("a rule is about %s, which is not there", file)
			}
		}
		if slices.Contains(rule.MatchDepTypes, "indirect") {
			told = append(told, rule.MatchPackageNames...)
		}
	}
	tools := indirectTools(t)
	slices.Sort(told)
	if !slices.Equal(told, tools) {
		t.Errorf("the rule about indirect dependencies names\n%q, want\n%q", told, tools)
	}
}

// indirectTools returns the modules, sorted, that have a tool of hack/tools and are required as indirect ones.
func indirectTools(t *testing.T) (modules []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "hack/tools/*/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		mod, err := modfile.Parse(file, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, tool := range mod.Tool {
			for _, require := range mod.Require {
				if path := require.Mod.Path; require.Indirect && (tool.Path == path || strings.HasPrefix(tool.Path, path+"/")) {
					modules = append(modules, path)
				}
			}
		}
	}
	slices.Sort(modules)
	return slices.Compact(modules)
}
