package doctest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/hack/commits"
)

// message requires that the block is a commit message of the right form.
func message(t *testing.T, block Block) {
	if err := commits.Check(block.Text); err != nil {
		t.Error(err)
	}
}

var (
	// boxes matches the texts of a flowchart's boxes.
	boxes = regexp.MustCompile(`\["([^"]+)"\]`)
	// folder matches a text that can only be a folder's path.
	folder = regexp.MustCompile(`^[a-z][a-z0-9-]*(/[a-z0-9-]+)*$`)
)

// drawn checks that the block is a flowchart, and that boxes with names of folders name those of the repository.
func drawn(t *testing.T, block Block) {
	if !strings.HasPrefix(block.Text, "flowchart ") {
		t.Error("this does not begin as a flowchart does")
	}
	found := boxes.FindAllStringSubmatch(block.Text, -1)
	if len(found) == 0 {
		t.Error("there is no box")
	}
	for _, box := range found {
		if !folder.MatchString(box[1]) {
			continue
		}
		if info, err := os.Stat(filepath.Join(root, box[1])); err != nil || !info.IsDir() {
			t.Errorf("there is no folder %s", box[1])
		}
	}
}

// TestEveryModuleIsExplained checks that CONTRIBUTING.md says of each go.mod what it is for. Those of tools are named alone.
func TestEveryModuleIsExplained(t *testing.T) {
	pages := all(t)
	page := pages[slices.IndexFunc(pages, func(p *Page) bool { return p.Path == "CONTRIBUTING.md" })]
	modules := 0
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != ".." && file != root {
			return fs.SkipDir
		}
		if entry.Name() != "go.mod" {
			return nil
		}
		modules++
		module, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		module = strings.TrimPrefix(filepath.ToSlash(module), "hack/tools/")
		if !slices.ContainsFunc(page.Code, func(code Piece) bool { return code.Text == module }) {
			t.Errorf("%s does not say what the module %s is for", page.Path, module)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if modules < 10 {
		t.Errorf("%d modules were found", modules)
	}
}
