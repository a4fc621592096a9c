package release

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// krewName is the name by which krew installs the plugin, and kubectl calls it.
const krewName = "agentlet"

// archiveName returns the name of the plugin's archive for a platform.
func (p platform) archiveName(version string) string {
	name := fmt.Sprintf("agentlet_%s_%s_%s", version, p.system, p.architecture)
	if p.system == windows {
		return name + ".zip"
	}
	return name + ".tar.gz"
}

// plugins packs the plugin with the licence for each platform, and writes the manifest for krew if it is known where the archives
// will be.
func (r *release) plugins(context.Context) error {
	sums := map[platform]string{}
	for _, p := range platforms() {
		archive, write := r.out("%s", p.archiveName(r.Version)), writeTar
		if p.system == windows {
			write = writeZip
		}
		if err := write(archive, r.packed(p, []string{plugin})); err != nil {
			return err
		}
		var err error
		if sums[p], err = checksum(archive); err != nil {
			return err
		}
	}
	if r.URL == "" {
		return nil
	}
	manifest, err := yaml.Marshal(krewManifest(r.Version, r.URL, sums))
	if err != nil {
		return fmt.Errorf("encode krew manifest: %w", err)
	}
	// krew wants the file to have the plugin's name.
	if err := os.WriteFile(filepath.Join(r.Out, krewName+".yaml"), manifest, 0o644); err != nil {
		return fmt.Errorf("write krew manifest: %w", err)
	}
	return nil
}

// checkURL returns an error unless text is empty or an address under which files can be.
func checkURL(text string) error {
	if text == "" {
		return nil
	}
	address, err := url.Parse(text)
	if err != nil || (address.Scheme != "https" && address.Scheme != "http") || address.Host == "" || address.RawQuery != "" {
		return fmt.Errorf("URL %q: want the folder of the plugin's archives, such as https://downloads.example/agentlet/1.2.3", text)
	}
	return nil
}

// krewPlugin is a manifest as krew reads it (krew.googlecontainertools.github.com/v1alpha2).
type krewPlugin struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       krewSpec          `json:"spec"`
}

type krewSpec struct {
	Version          string         `json:"version"`
	Homepage         string         `json:"homepage"`
	ShortDescription string         `json:"shortDescription"`
	Description      string         `json:"description"`
	Platforms        []krewPlatform `json:"platforms"`
}

type krewPlatform struct {
	Selector krewSelector `json:"selector"`
	URI      string       `json:"uri"`
	Sha256   string       `json:"sha256"`
	Files    []krewFile   `json:"files"`
	Bin      string       `json:"bin"`
}

type krewSelector struct {
	MatchLabels map[string]string `json:"matchLabels"`
}

type krewFile struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// krewManifest returns the manifest for the archives at an address, given their checksums.
func krewManifest(version, address string, sums map[platform]string) krewPlugin {
	spec := krewSpec{
		Version:          "v" + version,
		Homepage:         "https://github.com/agentlet/agentlet",
		ShortDescription: "Explain, inject and check pods registered in Consul",
		Description: "Says what annotated manifests would register in Consul, prints them as Agentlet's webhook would\n" +
			"make them, shows pods as Kubernetes and as Consul see them, and checks an installation.\n",
	}
	for _, p := range platforms() {
		spec.Platforms = append(spec.Platforms, krewPlatform{
			Selector: krewSelector{map[string]string{"os": p.system, "arch": p.architecture}},
			URI:      strings.TrimSuffix(address, "/") + "/" + p.archiveName(version),
			Sha256:   sums[p],
			Files:    []krewFile{{p.file(plugin), "."}, {license, "."}},
			Bin:      p.file(plugin),
		})
	}
	return krewPlugin{
		APIVersion: "krew.googlecontainertools.github.com/v1alpha2", Kind: "Plugin",
		Metadata: map[string]string{"name": krewName}, Spec: spec,
	}
}
