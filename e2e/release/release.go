// Package release builds the parts of a release: archives of the programs, the image for each architecture, the chart, the bill
// of materials and the checksums. The same tree and version result in the same bytes.
package release

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/agentlet/agentlet/e2e/image"
)

// Architectures that are released, all for linux.
var Architectures = []string{"amd64", "arm64"}

// programs are the commands of the repository; those of the image come first.
var programs = []string{"agentlet", "agentlet-webhook", "kubectl-agentlet"}

// inImage is how many of programs are in the image.
const inImage = 2

// Options configures a release.
type Options struct {
	// Root is the repository's folder.
	Root string
	// Out is the folder for the release; its previous content is removed.
	Out string
	// Version, such as 1.2.3, is the version of each program, the image, the chart and its application.
	Version string
	// LDFlags are flags of the Go linker that set the programs' version.
	LDFlags string
	// Helm is the helm program.
	Helm string
	// Created is the time in the bill of materials.
	Created time.Time
	// Env is added to the environment of the compiler.
	Env []string
}

var semver = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?$`)

// Build builds a release.
func Build(ctx context.Context, o Options) (err error) {
	if !semver.MatchString(o.Version) {
		return fmt.Errorf("version %q: want one such as 1.2.3 or 1.2.3-rc.1", o.Version)
	}
	if err := errors.Join(os.RemoveAll(o.Out), os.MkdirAll(o.Out, 0o755)); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	work, err := os.MkdirTemp("", "agentlet-release-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	r := &release{Options: o, work: work}
	steps := []func(context.Context) error{
		r.compile, r.versions, r.archives, r.images, r.chart, r.materials, r.checksums,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// release is the state of one build.
type release struct {
	Options
	work string
}

// program returns the path of a program for an architecture.
func (r *release) program(architecture, name string) string {
	return filepath.Join(r.work, architecture, name)
}

// out returns the path of a released file.
func (r *release) out(format string, args ...any) string {
	return filepath.Join(r.Out, fmt.Sprintf(format, args...))
}

func (r *release) compile(ctx context.Context) error {
	for _, architecture := range Architectures {
		args := []string{
			"build",
			"-trimpath",
			"-buildvcs=false",
			"-ldflags",
			r.LDFlags,
			"-o",
			filepath.Join(r.work, architecture) + "/",
		}
		for _, name := range programs {
			args = append(args, "./cmd/"+name)
		}
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir = r.Root
		command.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture, "GOWORK=off"), r.Env...)
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build for %s: %w\n%s", architecture, err, out)
		}
	}
	return nil
}

// versions checks the version of each program that can run on this machine.
func (r *release) versions(ctx context.Context) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	for _, name := range programs {
		argument := "version"
		if name == "kubectl-agentlet" {
			argument = "--version"
		}
		out, err := exec.CommandContext(ctx, r.program(runtime.GOARCH, name), argument).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", name, argument, err, out)
		}
		if !strings.Contains(" "+strings.TrimSpace(string(out))+" ", " "+r.Version+" ") {
			return fmt.Errorf("%s says %q, want version %s", name, strings.TrimSpace(string(out)), r.Version)
		}
	}
	return nil
}

// archives packs the programs of each architecture with the licence.
func (r *release) archives(context.Context) error {
	for _, architecture := range Architectures {
		files := []entry{{name: "LICENSE", source: filepath.Join(r.Root, "LICENSE"), mode: 0o644}}
		for _, name := range programs {
			files = append(files, entry{name: name, source: r.program(architecture, name), mode: 0o755})
		}
		if err := writeTar(r.out("agentlet-%s-linux-%s.tar.gz", r.Version, architecture), files); err != nil {
			return err
		}
	}
	return nil
}

// images writes the image as one OCI layout for all architectures, and for docker as a tarball each.
func (r *release) images(context.Context) error {
	reference := "agentlet/agentlet:" + r.Version
	images := make([]v1.Image, 0, len(Architectures))
	for _, architecture := range Architectures {
		spec := image.Spec{Architecture: architecture, Labels: map[string]string{
			"org.opencontainers.image.title": "agentlet", "org.opencontainers.image.version": r.Version,
			"org.opencontainers.image.licenses": "Apache-2.0",
		}}
		for _, name := range programs[:inImage] {
			spec.Files = append(spec.Files, image.File{Path: "/" + name, Source: r.program(architecture, name)})
		}
		img, err := image.Build(spec)
		if err != nil {
			return err
		}
		images = append(images, img)
		if err := image.WriteTarball(r.out("agentlet-%s-image-docker-%s.tar", r.Version, architecture), reference, img); err != nil {
			return err
		}
	}
	layout := filepath.Join(r.work, "layout")
	if _, err := image.WriteLayout(layout, r.Version, images...); err != nil {
		return err
	}
	files, err := within(layout)
	if err != nil {
		return err
	}
	return writeTar(r.out("agentlet-%s-image-oci.tar", r.Version), files)
}

// chart packages the chart. Helm writes the files' times into the package, so it is repacked without them.
func (r *release) chart(ctx context.Context) error {
	command := exec.CommandContext(ctx, r.Helm, "package", filepath.Join(r.Root, "charts", "agentlet"), "--destination", r.work,
		"--version", r.Version, "--app-version", r.Version)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("helm package: %w\n%s", err, out)
	}
	name := fmt.Sprintf("agentlet-%s.tgz", r.Version)
	return repack(filepath.Join(r.work, name), filepath.Join(r.Out, name))
}
