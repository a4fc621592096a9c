// Package docs makes what is generated in the documentation: the tables of the contract, which come from agentlet/contract,
// and the picture of a pod's life. In a Markdown file a table stands between markers:
//
//	<!-- generated: NAME -->
//	<!-- end -->
package docs

import (
	"fmt"
	"os"
	"path/filepath"
)

//go:generate go run ./generate ../..

// pages are the Markdown files that hold generated tables.
var pages = []string{"README.md", "docs/annotations.md", "docs/operating.md"}

// The picture of a pod's life: what was measured, and what is drawn from it.
const (
	lifeFile     = "docs/images/life.json"
	lightPicture = "docs/images/life-light.svg"
	darkPicture  = "docs/images/life-dark.svg"
)

// Files returns the content that every file with something generated should have, by its path in the repository, whose
// folder is root. It writes nothing.
func Files(root string) (map[string]string, error) {
	files := map[string]string{}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		if files[page], err = fill(string(text), tables()); err != nil {
			return nil, fmt.Errorf("fill %s: %w", page, err)
		}
	}
	data, err := os.ReadFile(filepath.Join(root, lifeFile))
	if err != nil {
		return nil, fmt.Errorf("read life: %w", err)
	}
	life, err := parseLife(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", lifeFile, err)
	}
	files[lightPicture], files[darkPicture] = draw(life, light), draw(life, dark)
	return files, nil
}
