// Package toolchain builds the programs of the test cluster and the linters from nested Go modules (tools/NAME). It keeps them in
// a cache folder outside the tree, so that only the first start takes long.
package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/agentlet/agentlet/e2e/internal/filelock"
)

// Tools maps a tool set's name to the folder with its programs.
type Tools map[string]string

// Program returns the path of a program of a tool set.
func (t Tools) Program(set, program string) string { return filepath.Join(t[set], program) }

// Ensure returns the folders of the named tool sets, and builds the missing ones, one after the other. A folder appears in the
// cache only when all its programs are built. Progress is written to log.
func Ensure(ctx context.Context, log io.Writer, names ...string) (Tools, error) {
	source, err := SourceRoot()
	if err != nil {
		return nil, err
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, err
	}
	tools := Tools{}
	for _, name := range names {
		b, err := prepare(ctx, source, cache, name)
		if err != nil {
			return nil, err
		}
		if err := b.ensure(ctx, log); err != nil {
			return nil, fmt.Errorf("build %s: %w", name, err)
		}
		tools[name] = b.dir
	}
	return tools, nil
}

// Built returns the folder of a tool set if it is in the cache. It never builds.
func Built(ctx context.Context, name string) (tools Tools, built bool, err error) {
	source, err := SourceRoot()
	if err != nil {
		return nil, false, err
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, false, err
	}
	b, err := prepare(ctx, source, cache, name)
	if err != nil {
		return nil, false, err
	}
	return Tools{name: b.dir}, b.cached(), nil
}

func prepare(ctx context.Context, source, cache, name string) (*build, error) {
	s, err := findSet(name)
	if err != nil {
		return nil, err
	}
	b, err := newBuild(ctx, s, filepath.Join(source, "tools", name), filepath.Join(cache, "tools"))
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", name, err)
	}
	return b, nil
}

// build is a tool set with its target folder.
type build struct {
	set
	source  string // the nested module
	dir     string // the programs' target folder
	ldflags string
}

func newBuild(ctx context.Context, s set, source, cache string) (*build, error) {
	inputs := make([][]byte, 0, 6)
	files := []string{"go.mod", "go.sum"}
	if s.own() {
		files = append(files, "main.go")
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			return nil, fmt.Errorf("read module: %w", err)
		}
		inputs = append(inputs, content)
	}
	ldflags, err := s.ldflags(inputs[0])
	if err != nil {
		return nil, err
	}
	goCommand := exec.CommandContext(ctx, "go", "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64")
	goCommand.Dir, goCommand.Env = source, buildEnv()
	goEnv, err := goCommand.Output()
	if err != nil {
		return nil, fmt.Errorf("ask for go version: %w", err)
	}
	flags := fmt.Sprint(s.builds(ldflags, ""), buildVariables)
	inputs = append(inputs, goEnv, []byte(flags))
	return &build{set: s, source: source, dir: filepath.Join(cache, s.name+"-"+key(inputs...)), ldflags: ldflags}, nil
}

// buildVariables make the programs static, and disable an enclosing workspace.
var buildVariables = []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false -mod=readonly"}

func buildEnv() []string { return append(os.Environ(), buildVariables...) }

func (b *build) cached() bool {
	_, err := os.Stat(b.dir)
	return err == nil
}

// ensure builds under a lock that all tool sets share: concurrent builds would compete for memory and processors.
func (b *build) ensure(ctx context.Context, log io.Writer) (err error) {
	if b.cached() {
		return nil
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(filepath.Dir(b.dir), ".lock"), func() {
		fmt.Fprintln(log, "waiting for another build of tools")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if b.cached() {
		return nil
	}
	// Remove temporary folders with this prefix. We hold the lock, so they are the remains of a killed build.
	temporary := filepath.Join(filepath.Dir(b.dir), ".building-"+b.name)
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove unfinished build: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	if err := os.Mkdir(temporary, 0o755); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	if err := b.compile(ctx, log, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, b.dir); err != nil {
		return fmt.Errorf("move programs into cache: %w", err)
	}
	return nil
}

func (b *build) compile(ctx context.Context, log io.Writer, dir string) error {
	programs := "1 program"
	if n := len(b.programs); n > 1 {
		programs = fmt.Sprintf("%d programs", n)
	}
	progress := startProgress(log, fmt.Sprintf("building %s (%s)", b.name, programs))
	for _, args := range b.builds(b.ldflags, dir) {
		output := &tail{limit: 4096}
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir, command.Env = b.source, buildEnv()
		command.Stdout, command.Stderr = output, output
		if err := command.Run(); err != nil {
			progress.stop("failed")
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return fmt.Errorf("go build: %w\n%s", err, strings.TrimSpace(output.String()))
		}
	}
	progress.stop("done")
	return nil
}
