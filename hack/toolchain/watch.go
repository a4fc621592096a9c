package toolchain

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Watch runs a command that calls `go build -v`, and shows on log how far it is unless it is over at once. packages are what is
// built, with the flags that decide what that consists of; they are looked up in the folder and the environment of the
// command. The error holds what the command printed beside its progress.
func Watch(ctx context.Context, log io.Writer, label string, command *exec.Cmd, packages []string) error {
	var (
		mu    sync.Mutex
		state forecast
	)
	locked := func(do func()) {
		mu.Lock()
		defer mu.Unlock()
		do()
	}
	output := &lines{rest: tail{limit: 4096}, hear: func(line string) (about bool) {
		locked(func() { about = state.hear(line, time.Now()) })
		return about
	}}
	command.Stdout, command.Stderr = output, output
	progress := StartProgress(log, label, func(now time.Time) (text string) {
		locked(func() { text = state.tell(now) })
		return text
	})
	// Beside the build, since it takes seconds: what is compiled meanwhile, the build has named.
	listing, stop := context.WithCancel(ctx)
	listed := make(chan struct{})
	go func() {
		defer close(listed)
		sizes := listUncompiled(listing, command, packages)
		locked(func() { state.sizes = sizes })
	}()
	err := command.Run()
	stop()
	<-listed
	if err != nil {
		progress.Stop("failed")
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("%s: %w\n%s", filepath.Base(command.Path), err, strings.TrimSpace(output.String()))
	}
	progress.Stop("built")
	return nil
}

// listUncompiled returns the packages that go's cache doesn't hold, with the sizes of their sources; nothing when it can't be
// found out, in which case the build says why.
func listUncompiled(ctx context.Context, like *exec.Cmd, packages []string) map[string]int64 {
	// Without EmbedFiles go list doesn't look for them, and takes packages that embed files for stale.
	list := exec.CommandContext(ctx, "go",
		append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,EmbedFiles,StaleReason"}, packages...)...)
	list.Dir, list.Env = like.Dir, like.Env
	out, err := list.Output()
	if err != nil {
		return nil
	}
	sizes := map[string]int64{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Dir, StaleReason string
			GoFiles                      []string
		}
		if decoder.Decode(&p) != nil {
			return sizes
		}
		if p.StaleReason == "" || strings.HasPrefix(p.StaleReason, "not installed") { // a program's: only to be linked
			continue
		}
		for _, file := range p.GoFiles {
			if info, err := os.Stat(filepath.Join(p.Dir, file)); err == nil {
				sizes[p.ImportPath] += info.Size()
			}
		}
	}
}
