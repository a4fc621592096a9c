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
	"strings"
)

// Stdin is the name of the standard input.
const Stdin = "-"

// Extensions returns those of the files in a folder that are read, without the dot.
func Extensions() []string { return []string{"yaml", "yml", "json"} }

// Read reads files, the manifests in folders (their files named *.yaml, *.yml and *.json, those of folders below too if
// recursive), what is at an address (http:// or https://), and the standard input where a name is "-". Errors are documents that
// can't be read; an error is a file that can't be read.
func Read(
	ctx context.Context,
	names []string,
	recursive bool,
	stdin io.Reader,
) (files []*File, diagnostics []Diagnostic, err error) {
	if len(names) == 0 {
		return nil, nil, errors.New("name the manifests: a file, a folder, a URL or - for the standard input, or -k and a folder with a kustomization")
	}
	for _, name := range names {
		paths := []string{name}
		if name != Stdin && !isURL(name) {
			if paths, err = manifestsIn(name, recursive); err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
		}
		for _, path := range paths {
			if err := ctx.Err(); err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
			text, shown, err := readOne(ctx, path, stdin)
			if err != nil {
				return nil, nil, fmt.Errorf("read manifests: %w", err)
			}
			file, wrong := Parse(shown, text)
			files, diagnostics = append(files, file), append(diagnostics, wrong...)
		}
	}
	return files, diagnostics, nil
}

func readOne(ctx context.Context, path string, stdin io.Reader) (text []byte, shown string, err error) {
	switch {
	case path == Stdin:
		text, err = readUntil(ctx, func() ([]byte, error) { return io.ReadAll(stdin) })
		return text, "stdin", err
	case isURL(path):
		return download(ctx, path)
	}
	text, err = readUntil(ctx, func() ([]byte, error) { return os.ReadFile(path) })
	return text, path, err
}

// readUntil reads, and returns when ctx ends. A terminal or a pipe may give nothing for ever, and such a read can't be ended: it
// goes on until the program ends.
func readUntil(ctx context.Context, read func() ([]byte, error)) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-done:
		return r.text, r.err
	}
}

// manifestsIn is the file, or the manifests of the folder, in order.
func manifestsIn(name string, recursive bool) (paths []string, err error) {
	info, err := os.Stat(name)
	if err != nil {
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			failed.Path = Shown(name) // such as git::https://, which is no file
		}
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	root := name + string(filepath.Separator) // so that a link to a folder is followed
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if path != root && !recursive {
				return fs.SkipDir
			}
		case slices.Contains(Extensions(), strings.TrimPrefix(filepath.Ext(path), ".")):
			paths = append(paths, path)
		}
		return nil
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("%s holds no manifest (*.yaml, *.yml, *.json)", name)
	}
	return paths, err
}
