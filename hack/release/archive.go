package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
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
	files, err = loaded(files)
	if err != nil {
		return err
	}
	for _, f := range files {
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

// writeZip writes files, sorted by name, into an archive as Windows unpacks it.
func writeZip(file string, files []entry) (err error) {
	files, err = loaded(files)
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("create archive: %w", err)
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	archive := zip.NewWriter(out)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: zipEpoch}
		header.SetMode(fs.FileMode(f.mode))
		to, err := archive.CreateHeader(header)
		if err != nil {
			return fmt.Errorf("add %s: %w", f.name, err)
		}
		if _, err := to.Write(f.data); err != nil {
			return fmt.Errorf("add %s: %w", f.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("close archive: %w", err)
	}
	return nil
}

// zipEpoch is the time of every file in a zip archive, whose format knows none before it.
var zipEpoch = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)

// loaded returns files with their content, sorted by name.
func loaded(files []entry) (all []entry, err error) {
	all = slices.Clone(files)
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	for i, f := range all {
		if f.source == "" {
			continue
		}
		if all[i].data, err = os.ReadFile(f.source); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.name, err)
		}
	}
	return all, nil
}

// repack copies the files of a compressed archive into another one, without their times.
func repack(from, to string) error {
	files, err := readTar(from)
	if err != nil {
		return err
	}
	return writeTar(to, files)
}

// readTar returns the files of an archive, which is compressed unless its name ends in .tar.
func readTar(file string) (files []entry, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	var plain io.Reader = bytes.NewReader(content)
	if !strings.HasSuffix(file, ".tar") {
		if plain, err = gzip.NewReader(plain); err != nil {
			return nil, fmt.Errorf("uncompress %s: %w", file, err)
		}
	}
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", file, err)
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", header.Name, err)
		}
		files = append(files, entry{name: header.Name, data: data, mode: header.Mode})
	}
}
