// Package figures keeps measured numbers in one flat JSON file, name → number, into which runs merge.
package figures

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
)

var mu sync.Mutex

// Merge adds figures to the file, over older ones of the same name. It makes the folder when it isn't there.
func Merge(file string, figures map[string]float64) error {
	mu.Lock()
	defer mu.Unlock()
	all := map[string]float64{}
	content, err := read(file)
	if err != nil {
		return err
	}
	if len(content) > 0 {
		if err := json.Unmarshal(content, &all); err != nil {
			return fmt.Errorf("decode %s: %w", file, err)
		}
	}
	maps.Copy(all, figures)
	content, err = json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}

// read returns what a file holds; nothing, and a folder for it, where it isn't there yet.
func read(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, fmt.Errorf("make folder for %s: %w", file, err)
		}
	case err != nil:
		return nil, fmt.Errorf("read what was measured before: %w", err)
	}
	return content, nil
}
