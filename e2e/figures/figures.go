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
	switch content, err := os.ReadFile(file); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("make folder for figures: %w", err)
		}
	case err != nil:
		return fmt.Errorf("read figures: %w", err)
	default:
		if err := json.Unmarshal(content, &all); err != nil {
			return fmt.Errorf("decode %s: %w", file, err)
		}
	}
	maps.Copy(all, figures)
	content, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode figures: %w", err)
	}
	if err := os.WriteFile(file, append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}
