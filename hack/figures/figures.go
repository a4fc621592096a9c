// Package figures keeps measured numbers in a flat JSON file, from name to number. Each run merges its own figures into the file.
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

// Merge adds figures to the file, and replaces older ones of the same name. It creates the folder if it is missing.
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

// read returns a file's content. If the file is missing, it creates its folder and returns nothing.
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
