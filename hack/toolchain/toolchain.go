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
	"slices"
)

// Tools maps a tool set's name to the folder with its programs.
type Tools map[string]string

// Program returns the path of a program of a tool set.
func (t Tools) Program(set, program string) string { return filepath.Join(t[set], program) }

// Job is something that is built after tool sets, and numbered with them. The label says which of all it is.
type Job struct {
	Name string
	Do   func(ctx context.Context, log io.Writer, label string) error
}

// Ensure returns the folders of the named tool sets and builds those that the cache doesn't hold, one after the
// other. What is returned is complete: a folder appears in the cache only once all its programs are built. Progress
// goes to log.
func Ensure(ctx context.Context, log io.Writer, names ...string) (Tools, error) {
	return EnsureAll(ctx, log, names)
}

// EnsureAll does what Ensure does, and the jobs after it.
func EnsureAll(ctx context.Context, log io.Writer, names []string, jobs ...Job) (Tools, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, err
	}
	tools, missing := Tools{}, []Job{}
	for _, name := range names {
		b, err := prepare(ctx, root, cache, name)
		if err != nil {
			return nil, err
		}
		tools[name] = b.dir
		if !b.cached() {
			missing = append(missing, Job{name, b.ensure})
		}
	}
	all := slices.Concat(missing, jobs)
	for i, job := range all {
		if err := job.Do(ctx, log, numbered(i+1, len(all), job.Name)); err != nil {
			return nil, fmt.Errorf("build %s: %w", job.Name, err)
		}
	}
	return tools, nil
}

// numbered says which of several builds one is.
func numbered(n, of int, name string) string {
	if of == 1 {
		return name
	}
	return fmt.Sprintf("[%d/%d] %s", n, of, name)
}

// Built returns the folder of a tool set if the cache holds it, and builds nothing.
func Built(ctx context.Context, name string) (tools Tools, built bool, err error) {
	root, err := Root()
	if err != nil {
		return nil, false, err
	}
	cache, err := CacheRoot()
	if err != nil {
		return nil, false, err
	}
	b, err := prepare(ctx, root, cache, name)
	if err != nil {
		return nil, false, err
	}
	return Tools{name: b.dir}, b.cached(), nil
}

func prepare(ctx context.Context, root, cache, name string) (*build, error) {
	s, err := findSet(name)
	if err != nil {
		return nil, err
	}
	b, err := newBuild(ctx, s, filepath.Join(root, "hack", "tools", name), filepath.Join(cache, "tools"))
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
	flags := fmt.Sprint(s.arguments(ldflags, ""), s.names, s.replaced, buildVariables)
	inputs = append(inputs, goEnv, []byte(flags))
	return &build{set: s, source: source, dir: filepath.Join(cache, s.name+"-"+key(inputs...)), ldflags: ldflags}, nil
}

// CompileFlags are those of every build that the demo waits for, the Makefile's included: with the same flags go compiles a
// package once for all programs. Without debug information, which the linker would drop, compiling takes an eighth less.
const CompileFlags = "-trimpath -gcflags=all=-dwarf=false"

// buildVariables make the programs static and keep an enclosing workspace from changing what is built.
var buildVariables = []string{"CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false -mod=readonly " + CompileFlags}

func buildEnv() []string { return append(os.Environ(), buildVariables...) }

func (b *build) cached() bool { return exists(b.dir) }

// ensure builds the tool set unless the cache holds it.
func (b *build) ensure(ctx context.Context, log io.Writer, label string) error {
	return once(ctx, log, b.dir, b.name, func(temporary string) error { return b.compile(ctx, log, label, temporary) })
}

func (b *build) compile(ctx context.Context, log io.Writer, label, dir string) (err error) {
	temporary, err := os.MkdirTemp("", "tools-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	flags, err := b.replaceFiles(ctx, temporary)
	if err != nil {
		return err
	}
	args := slices.Concat([]string{"build", "-v"}, flags, b.arguments(b.ldflags, dir))
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir, command.Env = b.source, buildEnv()
	what := slices.Concat(flags, []string{"-tags", b.buildTags()}, b.packages())
	if err := Watch(ctx, log, label, command, what); err != nil {
		return err
	}
	for _, name := range b.names {
		if err := os.Link(filepath.Join(dir, b.programs[0].name), filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("name a program: %w", err)
		}
	}
	return nil
}
