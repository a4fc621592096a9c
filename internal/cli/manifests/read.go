package manifests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Stdin is the name of the standard input.
const Stdin = "-"

// Read reads files, the manifests in folders (their files named *.yaml, *.yml and *.json, those of folders below too if
// recursive), and the standard input where a name is "-". Errors are documents that can't be read; an error is a file
// that can't be read.
func Read(
	ctx context.Context,
	names []string,
	recursive bool,
	stdin io.Reader,
) (files []*File, diagnostics []Diagnostic, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("name the manifests with -f FILE: a file, a folder, or - for the standard input")
	}
	for _, name := range names {
		paths := []string{name}
		if name != Stdin {
			if paths, err = manifestsIn(name, recursive); err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
		}
		for _, path := range paths {
			if err := ctx.Err(); err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
			text, shown, err := readOne(path, stdin)
			if err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
			file, wrong := Parse(shown, text)
			files, diagnostics = append(files, file), append(diagnostics, wrong...)
		}
	}
	return files, diagnostics, nil
}

func readOne(path string, stdin io.Reader) (text []byte, shown string, err error) {
	if path == Stdin {
		text, err = io.ReadAll(stdin)
		return text, "stdin", err
	}
	text, err = os.ReadFile(path)
	return text, path, err
}

// manifestsIn is the file, or the manifests of the folder, in order.
func manifestsIn(name string, recursive bool) (paths []string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	err = filepath.WalkDir(name, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if path != name && !recursive {
				return fs.SkipDir
			}
		case slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			paths = append(paths, path)
		}
		return nil
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s holds no manifest (*.yaml, *.yml, *.json)", name)
	}
	return paths, err
}
