package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentlet/agentlet/hack/doctest"
)

// TestTheDocsUseOfThisPackageCompiles compiles each block that is tagged "go cluster", as the body of a function with a context, an
// error and a release function.
func TestTheDocsUseOfThisPackageCompiles(t *testing.T) {
	pages, err := doctest.Pages("../..")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range pages {
		for _, block := range page.Blocks {
			if block.Kind() != "go cluster" {
				continue
			}
			found++
			t.Run(block.Place(), func(t *testing.T) {
				file := filepath.Join(t.TempDir(), "main.go")
				program := "package main\n\nimport (\n\t\"context\"\n\n\t\"github.com/agentlet/agentlet/e2e/cluster\"\n)\n\n" +
					"func main() {\n\tctx := context.Background()\n" + block.Text + "\t_, _ = release, err\n}\n"
				if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
					t.Fatal(err)
				}
				if out, err := exec.CommandContext(t.Context(), "go", "vet", file).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
	}
	if found == 0 {
		t.Error("no block is tagged go cluster")
	}
}
