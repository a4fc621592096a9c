package toolchain

import (
	"context"
	"os/exec"
	"path/filepath"
)

// PrometheusPrograms are the paths of Prometheus' two programs.
type PrometheusPrograms struct{ Server, Promtool string }

// FindPrometheus returns the installed programs, or else those of Debian's package, a download of 20 MB. The error is
// ErrNotDebian if there is no such package either.
func FindPrometheus(ctx context.Context) (PrometheusPrograms, error) {
	if server, err := exec.LookPath("prometheus"); err == nil {
		if promtool, err := exec.LookPath("promtool"); err == nil {
			return PrometheusPrograms{server, promtool}, nil
		}
	}
	dir, err := Debian(ctx, "prometheus")
	return PrometheusPrograms{filepath.Join(dir, "usr/bin/prometheus"), filepath.Join(dir, "usr/bin/promtool")}, err
}
