package image

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func program(t *testing.T, content string, modified time.Time) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, modified, modified); err != nil {
		t.Fatal(err)
	}
	return file
}

func digest(t *testing.T, spec Spec) v1.Hash {
	t.Helper()
	img, err := Build(spec)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestBuildIsReproducible(t *testing.T) {
	early := digest(t, Spec{Files: []File{{Path: "/app", Source: program(t, "x", time.Unix(1, 0))}}})
	late := digest(t, Spec{Files: []File{{Path: "/app", Source: program(t, "x", time.Now())}}})
	if early != late {
		t.Errorf("same content gave %s and %s", early, late)
	}
	other := digest(t, Spec{Files: []File{{Path: "/app", Source: program(t, "y", time.Unix(1, 0))}}})
	if early == other {
		t.Error("different content gave the same image")
	}
}

func TestWriteTarballRoundTrip(t *testing.T) {
	source := program(t, "content", time.Now())
	img, err := Build(Spec{Files: []File{
		{Path: "/bin/app", Source: source},
		{Path: "/bin/data", Source: source, Mode: 0o644},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := WriteTarball(file, "agentlet.test/app:e2e", img); err != nil {
		t.Fatal(err)
	}
	read, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Config.Entrypoint, []string{"/bin/app"}) || config.Config.User != DefaultUser {
		t.Errorf("entrypoint %v, user %q", config.Config.Entrypoint, config.Config.User)
	}

	layers, err := read.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v; want one", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	got := map[string]int64{}
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = header.Mode
	}
	want := map[string]int64{"bin/": 0o755, "bin/app": 0o755, "bin/data": 0o644}
	if len(got) != len(want) {
		t.Errorf("layer holds %v, want %v", got, want)
	}
	for file, mode := range want {
		if got[file] != mode {
			t.Errorf("%s has mode %o, want %o", file, got[file], mode)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	source := program(t, "x", time.Now())
	for name, files := range map[string][]File{
		"nothing":         nil,
		"a relative path": {{Path: "app", Source: source}},
		"an unclean path": {{Path: "/a/../app", Source: source}},
		"a missing file":  {{Path: "/app", Source: source + "-missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Build(Spec{Files: files}); err == nil {
				t.Error("no error")
			}
		})
	}
}
