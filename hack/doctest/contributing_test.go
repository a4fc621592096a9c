package doctest

import (
	"os"
	"path/filepath"
	"regexp"
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
