package docs

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var mentioned = regexp.MustCompile(`(RUN=)?\b(Test[A-Z]\w*)(…)?`)

// TestMentionedTestsExist checks that every test that a page names exists.
func TestMentionedTestsExist(t *testing.T) {
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
	exist, err := testNames(root)
	if err != nil {
		t.Fatal(err)
	}
	mentions := 0
	for _, page := range slices.Concat(glob("docs/*.md"), glob("docs/*/*.md"), glob("e2e/*.md"), glob("README.md")) {
		for _, match := range mentioned.FindAllStringSubmatch(read(page), -1) {
			mentions++
			name, several := match[2], match[1]+match[3] != "" // RUN is a regular expression
			begun := func(one string) bool { return strings.HasPrefix(one, name) }
			if !exist[name] && (!several || !slices.ContainsFunc(slices.Collect(maps.Keys(exist)), begun)) {
				t.Errorf("%s names %s: want a test of this repository", filepath.Base(page), name)
			}
		}
	}
	if mentions < 10 {
		t.Errorf("%d mentions were found", mentions)
	}
}
