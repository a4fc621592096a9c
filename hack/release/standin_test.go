package release

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

const testVersion = "1.2.3"

// standIn makes a release of files that stand in for the programs and for what Helm has packaged.
func standIn(t *testing.T, chart string) *release {
	t.Helper()
	folder := t.TempDir()
	r := newRelease(Options{
		Root: filepath.Join(folder, "root"), Out: filepath.Join(folder, "dist"), Version: testVersion,
		URL: "https://downloads.example/agentlet/1.2.3/",
	}, filepath.Join(folder, "work"))
	write := func(file, content string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(r.Root, license), "free")
	write(filepath.Join(r.Out, billName(testVersion)), "{}")
	for _, p := range platforms() {
		for _, name := range p.programs() {
			write(r.program(p, name), name+" for "+p.String())
		}
	}
	packaged := filepath.Join(r.work, "packaged.tgz")
	if err := writeTar(packaged, []entry{
		{name: "agentlet/Chart.yaml", data: []byte(chart), mode: 0o644},
		{name: "agentlet/charts/other/Chart.yaml", data: []byte("name: other\n"), mode: 0o644},
		{name: "agentlet/values.yaml", data: []byte("replicas: 2\n"), mode: 0o644},
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func(context.Context) error{
		r.archives, r.plugins, r.images, func(context.Context) error { return r.packChart(packaged) }, r.artifacts, r.checksums,
	} {
		if err := step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

const testChart = "apiVersion: v2\nname: agentlet\nversion: 1.2.3\ndescription: A test.\n"
