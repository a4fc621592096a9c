package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	mentioned = regexp.MustCompile(`(RUN=)?\b(Test[A-Z][A-Za-z]*)(…)?`)
	declared  = regexp.MustCompile(`(?m)^func (Test[A-Z][A-Za-z]*)\(t \*testing\.T\)`)
)

// TestMentionedScenariosExist checks that every scenario that a page names exists.
func TestMentionedScenariosExist(t *testing.T) {
	glob := func(pattern string) []string {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		return files
	}
	read := func(file string) string {
		t.Helper()
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	var exist []string
	for _, file := range append(glob("e2e/scenarios/*_test.go"), glob("agentlet/consul/*_test.go")...) {
		for _, match := range declared.FindAllStringSubmatch(read(file), -1) {
			exist = append(exist, match[1])
		}
	}
	mentions := 0
	for _, page := range slices.Concat(glob("docs/*.md"), glob("docs/*/*.md"), glob("README.md")) {
		for _, match := range mentioned.FindAllStringSubmatch(read(page), -1) {
			mentions++
			name, several := match[2], match[1]+match[3] != "" // RUN is a regular expression
			if !slices.ContainsFunc(exist, func(one string) bool { return one == name || several && strings.HasPrefix(one, name) }) {
				t.Errorf("%s names %s, which is neither a scenario nor a test with a real Consul", filepath.Base(page), name)
			}
		}
	}
	if mentions < 10 {
		t.Errorf("%d mentions were found", mentions)
	}
}
