package release

import (
	"archive/zip"
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestPluginArchives(t *testing.T) {
	r := standIn(t, testChart)
	for name, test := range map[string]struct {
		platform
		file string
	}{
		"agentlet_1.2.3_linux_amd64.tar.gz":  {platform{"linux", "amd64"}, "kubectl-agentlet"},
		"agentlet_1.2.3_linux_arm64.tar.gz":  {platform{"linux", "arm64"}, "kubectl-agentlet"},
		"agentlet_1.2.3_darwin_amd64.tar.gz": {platform{"darwin", "amd64"}, "kubectl-agentlet"},
		"agentlet_1.2.3_darwin_arm64.tar.gz": {platform{"darwin", "arm64"}, "kubectl-agentlet"},
		"agentlet_1.2.3_windows_amd64.zip":   {platform{"windows", "amd64"}, "kubectl-agentlet.exe"},
		"agentlet_1.2.3_windows_arm64.zip":   {platform{"windows", "arm64"}, "kubectl-agentlet.exe"},
	} {
		t.Run(name, func(t *testing.T) {
			read := readTar
			if strings.HasSuffix(name, ".zip") {
				read = readZip
			}
			files, err := read(filepath.Join(r.Out, name))
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, f := range files {
				got[f.name] = string(f.data)
				if f.name == test.file && f.mode != 0o755 {
					t.Errorf("%s has the mode %o", f.name, f.mode)
				}
			}
			want := map[string]string{license: "free", test.file: "kubectl-agentlet for " + test.String()}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestKrewManifest(t *testing.T) {
	r := standIn(t, testChart)
	text, err := os.ReadFile(filepath.Join(r.Out, "agentlet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var plugin krewPlugin
	if err := yaml.UnmarshalStrict(text, &plugin); err != nil {
		t.Fatal(err)
	}
	spec := plugin.Spec
	if plugin.Kind != "Plugin" || plugin.Metadata["name"] != "agentlet" || spec.Version != "v1.2.3" {
		t.Errorf("manifest of %s %q, version %s", plugin.Kind, plugin.Metadata["name"], spec.Version)
	}
	if spec.ShortDescription == "" || strings.Contains(spec.ShortDescription, "\n") || spec.Description == "" {
		t.Errorf("descriptions %q and %q", spec.ShortDescription, spec.Description)
	}
	if len(spec.Platforms) != 6 {
		t.Errorf("%d platforms, want 6", len(spec.Platforms))
	}
	for _, p := range spec.Platforms {
		name, found := strings.CutPrefix(p.URI, "https://downloads.example/agentlet/1.2.3/")
		labels := p.Selector.MatchLabels
		if !found || !strings.HasPrefix(name, "agentlet_1.2.3_"+labels["os"]+"_"+labels["arch"]+".") {
			t.Errorf("%s for %v", p.URI, labels)
		}
		if sum, err := checksum(filepath.Join(r.Out, name)); err != nil || p.Sha256 != sum {
			t.Errorf("%s has the checksum %s, %v; the manifest says %s", name, sum, err, p.Sha256)
		}
		if !slices.ContainsFunc(p.Files, func(f krewFile) bool { return f.From == p.Bin && f.To == "." }) {
			t.Errorf("%s: the program %s is not among the files %v", name, p.Bin, p.Files)
		}
	}
}

func TestNoKrewManifestWithoutURL(t *testing.T) {
	r := standIn(t, testChart)
	r.URL = ""
	if err := os.Remove(filepath.Join(r.Out, "agentlet.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := r.plugins(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.Out, "agentlet.yaml")); err == nil {
		t.Error("a manifest that leads nowhere was written")
	}
}

func TestURLIsRefused(t *testing.T) {
	for _, address := range []string{"downloads.example", "ftp://downloads.example", "https://", "https://downloads.example/?a=b", ":"} {
		err := Build(t.Context(), Options{Version: testVersion, URL: address, Out: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "want the folder") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// The same programs make the same release: also in another folder, and at another time.
func TestReleasesAreReproducible(t *testing.T) {
	var all [2][]byte
	for i := range all {
		var err error
		if all[i], err = os.ReadFile(filepath.Join(standIn(t, testChart).Out, Checksums)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Errorf("the same programs gave\n%s\nand\n%s", all[0], all[1])
	}
	for _, name := range []string{"agentlet_1.2.3_windows_arm64.zip", "agentlet-1.2.3-chart-oci.tar", "agentlet-1.2.3-digests.txt", "agentlet.yaml"} {
		if !strings.Contains(string(all[0]), "  "+name+"\n") {
			t.Errorf("no checksum of %s in\n%s", name, all[0])
		}
	}
}

// readZip returns the files of a zip archive.
func readZip(file string) (files []entry, err error) {
	archive, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	for _, f := range archive.File {
		from, err := f.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(from)
		if err != nil {
			return nil, err
		}
		files = append(files, entry{name: f.Name, data: data, mode: int64(f.Mode().Perm())})
	}
	return files, nil
}
