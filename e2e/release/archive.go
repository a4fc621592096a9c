package release

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// epoch is the time of every file.
var epoch = time.Unix(0, 0).UTC()

// entry is a file of an archive. Its content is that of the file source, or data if source is empty.
type entry struct {
	name, source string
	data         []byte
	mode         int64
}

// within returns the files of a folder.
func within(folder string) (files []entry, err error) {
	err = filepath.WalkDir(folder, func(path string, item fs.DirEntry, err error) error {
		if err != nil || item.IsDir() {
			return err
		}
		name, err := filepath.Rel(folder, path)
		files = append(files, entry{name: filepath.ToSlash(name), source: path, mode: 0o644})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", folder, err)
	}
	return files, nil
}

// writeTar writes files, sorted by name, into an archive. The archive is compressed unless its name ends in .tar.
func writeTar(file string, files []entry) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	var to io.WriteCloser = out
	if !strings.HasSuffix(file, ".tar") {
		to = gzip.NewWriter(out)
		defer func() { err = errors.Join(err, to.Close()) }()
	}
	archive := tar.NewWriter(to)
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	for _, f := range files {
		if f.source != "" {
			if f.data, err = os.ReadFile(f.source); err != nil {
				return fmt.Errorf("read %s: %w", f.name, err)
			}
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: epoch}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("add %s: %w", f.name, err)
		}
		if _, err := archive.Write(f.data); err != nil {
			return fmt.Errorf("add %s: %w", f.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("close archive: %w", err)
	}
	return nil
}

// repack copies the files of a compressed archive into another one, without their times.
func repack(from, to string) error {
	compressed, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return fmt.Errorf("uncompress %s: %w", from, err)
	}
	var files []entry
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return writeTar(to, files)
		}
		if err != nil {
			return fmt.Errorf("unpack %s: %w", from, err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return fmt.Errorf("unpack %s: %w", header.Name, err)
		}
		files = append(files, entry{name: header.Name, data: data, mode: header.Mode})
	}
}

// checksums writes the checksums of all files, in the format of sha256sum.
func (r *release) checksums(context.Context) error {
	files, err := within(r.Out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		data, err := os.ReadFile(f.source)
		if err != nil {
			return fmt.Errorf("read release: %w", err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), f.name)
	}
	if err := os.WriteFile(filepath.Join(r.Out, Checksums), []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("write checksums: %w", err)
	}
	return nil
}

// Checksums is the name of the file with the checksums of all others.
const Checksums = "SHA256SUMS"
