package image

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation with the tag of a manifest in an OCI layout.
const refName = "org.opencontainers.image.ref.name"

// WriteLayout writes images of one program that Build has built, one per architecture, as an index into an OCI layout, under a
// tag. It returns the index's digest.
func WriteLayout(folder, tag string, images ...v1.Image) (v1.Hash, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			return v1.Hash{}, fmt.Errorf("read image config: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: config.OS, Architecture: config.Architecture}},
		})
	}
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write OCI layout: %w", err)
	}
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
		return v1.Hash{}, fmt.Errorf("write image index: %w", err)
	}
	return index.Digest()
}

// WriteSingleLayout writes one image, or an artifact in the form of one, into an OCI layout, under a tag. It returns the image's
// digest.
func WriteSingleLayout(folder, tag string, img v1.Image) (v1.Hash, error) {
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return v1.Hash{}, fmt.Errorf("write OCI layout: %w", err)
	}
	if err := path.AppendImage(img, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
		return v1.Hash{}, fmt.Errorf("write image: %w", err)
	}
	return img.Digest()
}
