package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/hack/toolchain"
)

func TestRunCommand(t *testing.T) {
	for name, test := range map[string]struct{ script, pattern, want string }{
		"tests pass":  {"echo PASS; echo ok", "TestBasic", ""},
		"tests fail":  {"echo FAIL; exit 1", "TestBasic", "exit status 1"},
		"none is run": {"echo '" + noTests + "'; echo PASS", "TestBsaic", "no name of a scenario matches TestBsaic"},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), ".out", "scenarios.log")
			err := runCommand(exec.CommandContext(t.Context(), "sh", "-c", test.script, "-run", test.pattern), log)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if text, err := os.ReadFile(log); err != nil || len(text) == 0 {
				t.Errorf("the log has %q, %v", text, err)
			}
		})
	}
}

// TestGoSaysThatNoTestHasRun has `go test` say what runCommand looks for.
func TestGoSaysThatNoTestHasRun(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	err := runCommand(exec.CommandContext(t.Context(), "go", "test", "-v", "-run", "^TestNothing$", "../../filelock"), log)
	if err == nil || !strings.Contains(err.Error(), "no name of a scenario matches ^TestNothing$") {
		t.Errorf("got %v", err)
	}
}

// TestChosenScenariosExist holds each alternative of the patterns against the names of scenarios.
func TestChosenScenariosExist(t *testing.T) {
	root, err := toolchain.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "e2e", "scenarios", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names = append(names, found[1])
		}
	}
	for _, pattern := range []string{onOldest, onConsulMPL} {
		for alternative := range strings.SplitSeq(pattern, "|") {
			if !slices.ContainsFunc(names, regexp.MustCompile(alternative).MatchString) {
				t.Errorf("%s is the name of no scenario", alternative)
			}
		}
	}
}
