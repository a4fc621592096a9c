// Package image creates container images from static programs, without a base image and without a registry. The same files result
// in the same bytes.
package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// DefaultUser is the user of images: not root, and the usual number of distroless images.
const DefaultUser = "65532:65532"

// epoch is the time of every file and of the image itself, so that a build is reproducible.
var epoch = time.Unix(0, 0).UTC()

// File is one regular file of an image.
type File struct {
	Path   string // absolute path in the image
	Source string // path of its content here
	Mode   int64  // permission bits; 0 means 0755
}

// Spec describes an image.
type Spec struct {
	Files      []File
	Entrypoint []string // default: the first file
	User       string   // default: DefaultUser
	Env        []string // KEY=VALUE
	Labels     map[string]string
	// Architecture is in Go's spelling; default: that of this program.
	Architecture string
}

// Build builds a Linux image with one layer. All of its media types are OCI's: tools that convert manifests refuse a mixture.
func Build(spec Spec) (v1.Image, error) {
	if len(spec.Files) == 0 {
		return nil, errors.New("build image: no files")
	}
	content, err := layerTar(spec.Files)
	if err != nil {
		return nil, fmt.Errorf("build layer: %w", err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("build layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image config: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", cmp.Or(spec.Architecture, runtime.GOARCH)
	config.Created = v1.Time{Time: epoch}
	config.Config.Entrypoint = spec.Entrypoint
	if len(spec.Entrypoint) == 0 {
		config.Config.Entrypoint = []string{spec.Files[0].Path}
	}
	config.Config.User = spec.User
	if spec.User == "" {
		config.Config.User = DefaultUser
	}
	config.Config.Env = spec.Env
	config.Config.Labels = spec.Labels
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("set image config: %w", err)
	}
	return img, nil
}

// WriteTarball writes img under the given reference (NAME:TAG) to a file that `ctr images import` and `docker load`
// read.
func WriteTarball(file, reference string, img v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("parse image reference: %w", err)
	}
	if err := tarball.WriteToFile(file, tag, img); err != nil {
		return fmt.Errorf("write image tarball: %w", err)
	}
	return nil
}

// layerTar packs files and their parent folders in the order of their paths.
func layerTar(files []File) ([]byte, error) {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b File) int { return bytes.Compare([]byte(a.Path), []byte(b.Path)) })
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	folders := map[string]bool{"/": true}
	for _, file := range files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path {
			return nil, fmt.Errorf("add %q: not a clean absolute path", file.Path)
		}
		if err := addFolders(writer, path.Dir(file.Path), folders); err != nil {
			return nil, err
		}
		if err := addFile(writer, file); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, fmt.Errorf("close layer: %w", err)
	}
	return buffer.Bytes(), nil
}

func addFolders(writer *tar.Writer, folder string, done map[string]bool) error {
	if done[folder] {
		return nil
	}
	if err := addFolders(writer, path.Dir(folder), done); err != nil {
		return err
	}
	done[folder] = true
	header := &tar.Header{Typeflag: tar.TypeDir, Name: folder[1:] + "/", Mode: 0o755, ModTime: epoch}
	if err := writer.WriteHeader(header); err != nil {
		return fmt.Errorf("add folder %s: %w", folder, err)
	}
	return nil
}

func addFile(writer *tar.Writer, file File) error {
	content, err := os.ReadFile(file.Source)
	if err != nil {
		return fmt.Errorf("read %s: %w", file.Path, err)
	}
	mode := file.Mode
	if mode == 0 {
		mode = 0o755
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: file.Path[1:], Mode: mode, Size: int64(len(content)), ModTime: epoch,
	}
	if err := writer.WriteHeader(header); err != nil {
		return fmt.Errorf("add %s: %w", file.Path, err)
	}
	if _, err := writer.Write(content); err != nil {
		return fmt.Errorf("add %s: %w", file.Path, err)
	}
	return nil
}

// Rename writes a copy of an image's tarball under another reference.
func Rename(tar, reference, to string) error {
	img, err := tarball.ImageFromPath(tar, nil)
	if err != nil {
		return fmt.Errorf("read image tarball: %w", err)
	}
	return WriteTarball(to, reference, img)
}
