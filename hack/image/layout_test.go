package image

import (
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestWriteLayout(t *testing.T) {
	var images []v1.Image
	for _, architecture := range []string{"amd64", "arm64"} {
		img, err := Build(Spec{Architecture: architecture, Files: []File{{Path: "/app", Source: program(t, architecture, time.Now())}}})
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
	}
	folder := t.TempDir()
	digest, err := WriteLayout(folder, "1.2.3", images...)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := WriteLayout(t.TempDir(), "1.2.3", images...); err != nil || again != digest {
		t.Errorf("a second time: %s, want %s; %v", again, digest, err)
	}
	path, err := layout.FromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	top, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := top.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest != digest || manifest.Manifests[0].Annotations[refName] != "1.2.3" {
		t.Fatalf("layout: %+v, %v", manifest, err)
	}
	index, err := top.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	if manifest, err = index.IndexManifest(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"linux/amd64", "linux/arm64"} {
		if got := manifest.Manifests[i].Platform.String(); got != want {
			t.Errorf("platform %s, want %s", got, want)
		}
		img, err := index.Image(manifest.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil || config.Platform().String() != want {
			t.Errorf("config of %s: %v, %v", want, config.Platform(), err)
		}
		own, err := img.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		// Of all these or of none: a manifest of OCI's with a layer of docker's can't be converted.
		got := []types.MediaType{own.MediaType, own.Config.MediaType, own.Layers[0].MediaType}
		if !slices.Equal(got, []types.MediaType{types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer}) {
			t.Errorf("media types of %s: %v", want, got)
		}
	}
}
