package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestVersionIsRefused(t *testing.T) {
	out := t.TempDir()
	kept := filepath.Join(out, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"", "dev", "v1.2.3", "1.2", "01.2.3", "1.2.3 "} {
		if err := Build(t.Context(), Options{Version: version, Out: out}); err == nil || !strings.Contains(err.Error(), "want one such as") {
			t.Errorf("%q: %v", version, err)
		}
	}
	if _, err := os.Stat(kept); err != nil {
		t.Error("a refused version has cost the former release")
	}
}

// What is compiled may not depend on what somebody has set for other builds.
func TestCompilerIsToldAll(t *testing.T) {
	set := map[string]string{"GOAMD64": "v3", "GOARM64": "v9.0", "GOFIPS140": "latest", "GOFLAGS": "-tags=other", "GOEXPERIMENT": "noregabi"}
	for name, value := range set {
		t.Setenv(name, value)
	}
	r := newRelease(Options{Env: []string{"GOCACHE=/elsewhere"}}, t.TempDir())
	for _, p := range platforms() {
		command := exec.CommandContext(t.Context(), "go", "env", "-json")
		command.Env = r.environment(p)
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]string
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		for name, value := range set {
			if strings.Contains(got[name], value) {
				t.Errorf("%s: the compiler takes %s=%s from the environment", p, name, got[name])
			}
		}
		if got["GOOS"]+"/"+got["GOARCH"] != p.String() || got["CGO_ENABLED"] != "0" || got["GOCACHE"] != "/elsewhere" {
			t.Errorf("%s: go has %s/%s, CGO_ENABLED=%s, GOCACHE=%s", p, got["GOOS"], got["GOARCH"], got["CGO_ENABLED"], got["GOCACHE"])
		}
	}
}

func TestArchivesAreReproducible(t *testing.T) {
	folder := t.TempDir()
	write := func(name string, modified time.Time) entry {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.WriteFile(file, []byte(name), 0o600), os.Chtimes(file, modified, modified)); err != nil {
			t.Fatal(err)
		}
		return entry{name: name, source: file, mode: 0o755}
	}
	var archives [][]byte
	for i, files := range [][]entry{
		{write("b", time.Now()), write("a", time.Unix(1, 0))},
		{write("a", time.Now()), write("b", time.Unix(2, 0))},
	} {
		file := filepath.Join(folder, string(rune('0'+i))+".tar.gz")
		if err := writeTar(file, files); err != nil {
			t.Fatal(err)
		}
		again := filepath.Join(folder, "again.tgz")
		if err := repack(file, again); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{file, again} {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			archives = append(archives, data)
		}
	}
	for _, archive := range archives[1:] {
		if !bytes.Equal(archive, archives[0]) {
			t.Error("the same files gave different archives")
		}
	}
	plain, err := gzip.NewReader(bytes.NewReader(archives[0]))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if content, err := io.ReadAll(archive); err != nil || string(content) != header.Name || header.Mode != 0o755 {
			t.Errorf("%s: %q, mode %o, %v", header.Name, content, header.Mode, err)
		}
	}
	if !slices.Equal(names, []string{"a", "b"}) {
		t.Errorf("names: %v", names)
	}
}

func TestBill(t *testing.T) {
	modules := map[string]string{"example.com/b": "v2.0.0", "example.com/a": "v1.0.0", "stdlib": "1.26.0"}
	first, second := bill("1.2.3", time.Unix(0, 0), modules), bill("1.2.3", time.Unix(0, 0), modules)
	data, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(second); err != nil || !bytes.Equal(data, again) {
		t.Errorf("not reproducible: %v", err)
	}
	for _, want := range []string{
		`"spdxVersion":"SPDX-2.3"`, `"created":"1970-01-01T00:00:00Z"`, `"pkg:golang/example.com/a@v1.0.0"`,
		`"pkg:golang/github.com/agentlet/agentlet@1.2.3"`, `"SPDXID":"SPDXRef-agentlet"`,
		`{"spdxElementId":"SPDXRef-DOCUMENT","relatedSpdxElement":"SPDXRef-agentlet","relationshipType":"DESCRIBES"}`,
		`{"spdxElementId":"SPDXRef-agentlet","relatedSpdxElement":"SPDXRef-module-2","relationshipType":"DEPENDS_ON"}`,
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("no %s in %s", want, data)
		}
	}
}
