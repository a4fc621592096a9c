package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/hack/image"
)

// chartName returns the name of the packaged chart, which Helm chooses.
func (r *release) chartName() string { return fmt.Sprintf("agentlet-%s.tgz", r.Version) }

// packChart writes the chart that Helm has packaged into the release: alone, and as what a registry holds. Helm writes the files'
// times into the package, so it is repacked without them.
func (r *release) packChart(packaged string) error {
	chart := filepath.Join(r.Out, r.chartName())
	if err := repack(packaged, chart); err != nil {
		return err
	}
	made, err := readChart(chart)
	if err != nil {
		return err
	}
	layout := filepath.Join(r.work, "chart")
	digest, err := image.WriteSingleLayout(layout, r.Version, made)
	if err != nil {
		return err
	}
	return r.packLayout(chartArtifact, layout, digest)
}

// Media types of a chart in a registry, as Helm has them.
const (
	chartConfig  types.MediaType = "application/vnd.cncf.helm.config.v1+json"
	chartContent types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// chartImage is a packaged chart in the form in which Helm pulls it from a registry: its metadata are the config, and the package
// is the only layer. `helm push` writes a file's time into the manifest, too, so that each push has another digest.
type chartImage struct {
	config, manifest []byte
	layer            v1.Layer
}

// readChart makes the artifact of a packaged chart.
func readChart(file string) (v1.Image, error) {
	archive, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	files, err := readTar(file)
	if err != nil {
		return nil, err
	}
	// Charts below charts/ have one, too.
	i := slices.IndexFunc(files, func(f entry) bool { own, _ := path.Match("*/Chart.yaml", f.name); return own })
	if i < 0 {
		return nil, fmt.Errorf("%s has no Chart.yaml", file)
	}
	c := &chartImage{layer: static.NewLayer(archive, chartContent)}
	if c.config, err = yaml.YAMLToJSON(files[i].data); err != nil {
		return nil, fmt.Errorf("read Chart.yaml: %w", err)
	}
	var chart struct{ Name, Version, Description, Home string }
	if err := json.Unmarshal(c.config, &chart); err != nil {
		return nil, fmt.Errorf("read Chart.yaml: %w", err)
	}
	layer, err := partial.Descriptor(c.layer)
	if err != nil {
		return nil, fmt.Errorf("describe chart: %w", err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(c.config))
	if err != nil {
		return nil, fmt.Errorf("describe chart: %w", err)
	}
	c.manifest, err = json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
		Config: v1.Descriptor{MediaType: chartConfig, Digest: digest, Size: size},
		Layers: []v1.Descriptor{*layer},
		Annotations: map[string]string{
			"org.opencontainers.image.title": chart.Name, "org.opencontainers.image.version": chart.Version,
			"org.opencontainers.image.description": chart.Description, "org.opencontainers.image.url": chart.Home,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("encode manifest of the chart: %w", err)
	}
	return partial.CompressedToImage(c)
}

// MediaType implements partial.CompressedImageCore, as the other methods do.
func (*chartImage) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// RawConfigFile returns the chart's metadata.
func (c *chartImage) RawConfigFile() ([]byte, error) { return c.config, nil }

// RawManifest returns the manifest.
func (c *chartImage) RawManifest() ([]byte, error) { return c.manifest, nil }

// LayerByDigest returns the package.
func (c *chartImage) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	if own, err := c.layer.Digest(); err != nil || own != digest {
		return nil, fmt.Errorf("the chart has no layer %s: %w", digest, err)
	}
	return c.layer, nil
}
