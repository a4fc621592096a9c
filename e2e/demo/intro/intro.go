// Package intro is what the demo does before it is compiled: it says what is coming and how long that takes, and refuses a
// machine that can't run it. It is a package of its own because it has to be compiled at once.
package intro

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// runs is how long the demo takes once everything is built.
const runs = 2 * time.Minute

// compiles is the processor time that each tool set takes when nothing is compiled, as measured in e2e/README.md. What is left of
// all, the demo and Agentlet's own programs, is built again with each change of theirs, and taken for missing with Kubernetes.
var compiles = map[string]time.Duration{
	toolchain.Kubernetes: (112 + 392 + 65) * time.Second,
	toolchain.Consul:     80 * time.Second,
	toolchain.Helm:       29 * time.Second,
}

// Space that has to be free, in GiB, below the folder of the tools and the cluster: with the compiler's cache for a first
// start, or for the cluster alone.
const (
	spaceFirst = 6
	spaceAgain = 1
)

// Check returns what this machine lacks to run the demo.
func Check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("needs Linux with root, for network namespaces, cgroups and mounts; this is %s", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root, for network namespaces, cgroups and mounts: sudo -E make demo")
	}
	return nil
}

// Introduce prints the title and the estimate, and returns an error if there is too little space for what has to be built.
func Introduce(ctx context.Context, out io.Writer) error {
	cache, err := toolchain.CacheRoot()
	if err != nil {
		return err
	}
	build, err := missing(ctx)
	if err != nil {
		return err
	}
	title := "Agentlet: a rolling restart without a failed request"
	if toolchain.IsTerminal(out) && os.Getenv("NO_COLOR") == "" {
		title = "\x1b[1m" + title + "\x1b[0m"
	}
	fmt.Fprintf(out, "%s\n\n%s\n", title, text(build, runtime.NumCPU(), cache))
	need := spaceAgain
	if build > 0 {
		need = spaceFirst
	}
	return requireSpace(cache, need)
}

// missing returns the processor time of the tool sets that have to be built.
func missing(ctx context.Context) (total time.Duration, err error) {
	for name, takes := range compiles {
		_, built, err := toolchain.Built(ctx, name)
		if err != nil {
			return 0, err
		}
		if !built {
			total += takes
		}
	}
	return total, nil
}

// text says what the demo does and how long it takes. build is the processor time of what has to be compiled.
func text(build time.Duration, processors int, cache string) string {
	lines := []string{
		"A Kubernetes of two nodes and a Consul start on this machine. The same three pods are restarted under load twice:",
		"registered in Consul by hand, as people do without Agentlet, and then by Agentlet.",
		"",
	}
	if build > 0 {
		lines = append(lines,
			fmt.Sprintf("It takes about %d minutes. Most of that is compiling, this first time only: Kubernetes, Consul and Helm from source,",
				minutes(build/time.Duration(processors)+runs)),
			fmt.Sprintf("%d minutes of processor time for the %d processors here.", minutes(build), processors))
	} else {
		lines = append(lines, fmt.Sprintf("It takes about %d minutes.", minutes(runs)))
	}
	return strings.Join(append(lines,
		"What is built is kept in "+cache+". Interrupt it whenever you want: `make demo` goes on from there,",
		"`make demo-down` removes the cluster.", ""), "\n")
}

// minutes rounds up.
func minutes(d time.Duration) int { return int((d + time.Minute - 1) / time.Minute) }

// requireSpace returns an error if less than this many GiB are free where the folder is, or will be.
func requireSpace(folder string, need int) error {
	for {
		var fs unix.Statfs_t
		err := unix.Statfs(folder, &fs)
		if errors.Is(err, os.ErrNotExist) && folder != filepath.Dir(folder) {
			folder = filepath.Dir(folder)
			continue
		}
		if err != nil {
			return fmt.Errorf("look for free space at %s: %w", folder, err)
		}
		if free := float64(fs.Bavail) * float64(fs.Bsize) / (1 << 30); free < float64(need) {
			return fmt.Errorf("%s has %.1f GiB free, want %d GiB. AGENTLET_CACHE=FOLDER and GOCACHE=FOLDER use another disk",
				folder, free, need)
		}
		return nil
	}
}
