// Package release builds the parts of a release: archives of the programs and of the kubectl plugin, the image for each
// architecture, the chart, the bill of materials and the checksums. The same tree and version result in the same bytes. It also
// signs a release, and pushes its image and its chart to a registry.
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
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/agentlet/agentlet/hack/image"
)

// Architectures that are released: of the image for linux, of the plugin for each of Systems.
var Architectures = []string{"amd64", "arm64"}

// Systems are the operating systems that the plugin is released for. All programs are built for the first one.
var Systems = []string{linux, "darwin", windows}

const linux, windows = "linux", "windows"

// programs are the commands of the repository; those of the image come first, and the plugin is the last.
var programs = []string{"agentlet", "agentlet-webhook", plugin}

const (
	// inImage is how many of programs are in the image.
	inImage = 2
	// plugin is the program that kubectl finds as its command agentlet.
	plugin = "kubectl-agentlet"
)

// platform is an operating system and an architecture in Go's spelling.
type platform struct{ system, architecture string }

func (p platform) String() string { return p.system + "/" + p.architecture }

// platforms returns all for which something is built.
func platforms() (all []platform) {
	for _, system := range Systems {
		for _, architecture := range Architectures {
			all = append(all, platform{system, architecture})
		}
	}
	return all
}

// programs returns the names of the programs that are built for the platform.
func (p platform) programs() []string {
	if p.system == linux {
		return programs
	}
	return []string{plugin}
}

// file returns the name that a program's file has on the platform.
func (p platform) file(program string) string {
	if p.system == windows {
		return program + ".exe"
	}
	return program
}

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
	// URL is where the plugin's archives will be found, such as https://downloads.example/agentlet/1.2.3. Without it there is no
	// manifest for krew.
	URL string
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
	if err := checkURL(o.URL); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(o.Out), os.MkdirAll(o.Out, 0o755)); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	work, err := os.MkdirTemp("", "agentlet-release-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	r := newRelease(o, work)
	steps := []func(context.Context) error{
		r.compile, r.versions, r.archives, r.plugins, r.images, r.chart, r.artifacts, r.materials, r.checksums,
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
	// digests are those of the artifacts that were made for a registry, by the artifact's repository.
	digests map[string]v1.Hash
}

func newRelease(o Options, work string) *release {
	return &release{Options: o, work: work, digests: map[string]v1.Hash{}}
}

// program returns the path of a built program.
func (r *release) program(p platform, name string) string {
	return filepath.Join(r.work, p.system, p.architecture, p.file(name))
}

// out returns the path of a released file.
func (r *release) out(format string, args ...any) string {
	return filepath.Join(r.Out, fmt.Sprintf(format, args...))
}

func (r *release) compile(ctx context.Context) error {
	for _, p := range platforms() {
		args := []string{
			"build",
			"-trimpath",
			"-buildvcs=false",
			"-ldflags",
			r.LDFlags,
			"-o",
			filepath.Join(r.work, p.system, p.architecture) + "/",
		}
		for _, name := range p.programs() {
			args = append(args, "./cmd/"+name)
		}
		command := exec.CommandContext(ctx, "go", args...)
		command.Dir = r.Root
		command.Env = r.environment(p)
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build for %s: %w\n%s", p, err, out)
		}
	}
	return nil
}

// environment returns the compiler's environment. It sets all that changes what is compiled, whatever this machine has set: with
// GOAMD64=v3, say, the programs would have other bytes, and end at once on older processors.
func (r *release) environment(p platform) []string {
	env := append(
		os.Environ(), "CGO_ENABLED=0", "GOOS="+p.system, "GOARCH="+p.architecture, "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off",
		"GOEXPERIMENT=", "GOWORK=off", "GOFLAGS=-mod=readonly")
	return append(env, r.Env...)
}

// versions checks the version of each program that can run on this machine.
func (r *release) versions(ctx context.Context) error {
	if runtime.GOOS != linux || !slices.Contains(Architectures, runtime.GOARCH) {
		return nil
	}
	for _, name := range programs {
		argument := "version"
		if name == plugin {
			argument = "--version"
		}
		out, err := exec.CommandContext(ctx, r.program(platform{linux, runtime.GOARCH}, name), argument).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w\n%s", name, argument, err, out)
		}
		if !strings.Contains(" "+strings.TrimSpace(string(out))+" ", " "+r.Version+" ") {
			return fmt.Errorf("%s says %q, want version %s", name, strings.TrimSpace(string(out)), r.Version)
		}
	}
	return nil
}

// archives packs all programs for each architecture of linux.
func (r *release) archives(context.Context) error {
	for _, architecture := range Architectures {
		files := r.packed(platform{linux, architecture}, programs)
		if err := writeTar(r.out("agentlet-%s-programs-linux-%s.tar.gz", r.Version, architecture), files); err != nil {
			return err
		}
	}
	return nil
}

// packed returns what is in an archive of programs: these, and the licence.
func (r *release) packed(p platform, programs []string) []entry {
	files := []entry{{name: license, source: filepath.Join(r.Root, license), mode: 0o644}}
	for _, name := range programs {
		files = append(files, entry{name: p.file(name), source: r.program(p, name), mode: 0o755})
	}
	return files
}

// license is the file with the licence, in the repository and in each archive.
const license = "LICENSE"

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
			spec.Files = append(spec.Files, image.File{Path: "/" + name, Source: r.program(platform{linux, architecture}, name)})
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
	layout := filepath.Join(r.work, "image")
	digest, err := image.WriteLayout(layout, r.Version, images...)
	if err != nil {
		return err
	}
	return r.packLayout(imageArtifact, layout, digest)
}

// chart packages the chart.
func (r *release) chart(ctx context.Context) error {
	command := exec.CommandContext(ctx, r.Helm, "package", filepath.Join(r.Root, "charts", "agentlet"), "--destination", r.work,
		"--version", r.Version, "--app-version", r.Version)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("helm package: %w\n%s", err, out)
	}
	return r.packChart(filepath.Join(r.work, r.chartName()))
}
