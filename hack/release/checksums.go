package release

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Checksums is the name of the file with the checksums of all others, but of signatures.
const Checksums = "SHA256SUMS"

// checksums writes the checksums of all files, in the format of sha256sum.
func (r *release) checksums(context.Context) error {
	files, err := within(r.Out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		sum, err := checksum(f.source)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, f.name)
	}
	if err := os.WriteFile(filepath.Join(r.Out, Checksums), []byte(sums.String()), 0o644); err != nil {
		return fmt.Errorf("write checksums: %w", err)
	}
	return nil
}

// checksum returns the SHA-256 of a file in hexadecimal form.
func checksum(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read release: %w", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(data)), nil
}

// verifyChecksums returns an error for each file of a release that is not as the checksums say, and for each of the wanted files
// that they don't list.
func verifyChecksums(folder string, sums []byte, wanted ...string) error {
	var differ []error
	listed := map[string]bool{}
	for line := range strings.Lines(string(sums)) {
		want, name, found := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !found || !filepath.IsLocal(name) {
			return fmt.Errorf("%s says %q: want a checksum, two spaces and a file's name", Checksums, line)
		}
		got, err := checksum(filepath.Join(folder, name))
		if err == nil && got != want {
			err = fmt.Errorf("%s has the checksum %s, and %s says %s", name, got, Checksums, want)
		}
		differ, listed[name] = append(differ, err), true
	}
	for _, name := range wanted {
		if !listed[name] {
			differ = append(differ, fmt.Errorf("%s doesn't list %s: want its checksum, two spaces and its name", Checksums, name))
		}
	}
	return errors.Join(differ...)
}
