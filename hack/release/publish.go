package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// artifact is a part of a release that belongs into a registry.
type artifact struct {
	// kind is in the name of the archive with its OCI layout.
	kind string
	// repository is its name below that of the registry. Helm wants a chart's to end with the chart's name.
	repository string
}

var (
	imageArtifact = artifact{"image", "agentlet"}
	chartArtifact = artifact{"chart", "charts/agentlet"}
	// artifacts are all of them, in the order in which they are pushed.
	artifacts = []artifact{imageArtifact, chartArtifact}
)

// archive returns the name of the archive with the artifact's OCI layout.
func (a artifact) archive(version string) string {
	return fmt.Sprintf("agentlet-%s-%s-oci.tar", version, a.kind)
}

// packLayout packs the OCI layout of an artifact, and keeps its digest.
func (r *release) packLayout(a artifact, folder string, digest v1.Hash) error {
	files, err := within(folder)
	if err != nil {
		return err
	}
	r.digests[a.repository] = digest
	return writeTar(filepath.Join(r.Out, a.archive(r.Version)), files)
}

// artifacts writes the digests of the image and of the chart. They are the same in any registry, so that what was pulled can be
// compared with what was signed.
func (r *release) artifacts(context.Context) error {
	var lines strings.Builder
	for _, repository := range slices.Sorted(maps.Keys(r.digests)) {
		fmt.Fprintf(&lines, "%s  %s:%s\n", r.digests[repository], repository, r.Version)
	}
	if err := os.WriteFile(r.out("agentlet-%s-digests.txt", r.Version), []byte(lines.String()), 0o644); err != nil {
		return fmt.Errorf("write digests: %w", err)
	}
	return nil
}

// PublishOptions says what is pushed where.
type PublishOptions struct {
	// Folder is that of the release.
	Folder, Version string
	// Registry is a host with an optional port and path, such as registry.example/team.
	Registry string
	// PlainHTTP speaks HTTP where HTTPS is the rule: everywhere but on the own machine.
	PlainHTTP bool
	// PublicKey, in PEM, is that of the checksums' signature. Without one the signature isn't looked at.
	PublicKey []byte
	// Log gets a line for each thing that is in the registry afterwards: its name with its digest.
	Log io.Writer
}

// Publish pushes the image and the chart of a release to a registry, with the credentials that docker or podman keeps. What is
// there already stays; under a version's tag nothing is ever replaced by something else. Where one of them would have to be,
// neither is pushed.
func Publish(ctx context.Context, o PublishOptions) (err error) {
	if !semver.MatchString(o.Version) {
		return fmt.Errorf("version %q: want one such as 1.2.3 or 1.2.3-rc.1", o.Version)
	}
	if err := o.verify(); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "agentlet-publish-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	var pushes []push
	for _, a := range artifacts {
		tag, err := o.tag(a)
		if err != nil {
			return err
		}
		p, err := o.prepare(ctx, a, tag, filepath.Join(folder, a.kind))
		if err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
		pushes = append(pushes, p)
	}
	for _, p := range pushes {
		if err := p.run(o.access(ctx)); err != nil {
			return fmt.Errorf("push %s: %w", p.tag, err)
		}
		fmt.Fprintln(o.Log, p)
	}
	return nil
}

// verify checks the signature of the checksums, and with them all files. What is pushed has to be among these: a file that nobody
// has listed is one that nobody has signed.
func (o PublishOptions) verify() error {
	sums, err := os.ReadFile(filepath.Join(o.Folder, Checksums))
	if err != nil {
		return fmt.Errorf("read checksums: %w", err)
	}
	if o.PublicKey != nil {
		if err := verifySignature(o.Folder, Checksums, sums, o.PublicKey); err != nil {
			return err
		}
	}
	var archives []string
	for _, a := range artifacts {
		archives = append(archives, a.archive(o.Version))
	}
	return verifyChecksums(o.Folder, sums, archives...)
}

func (o PublishOptions) tag(a artifact) (name.Tag, error) {
	options := []name.Option{name.StrictValidation}
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	registry := strings.TrimSuffix(o.Registry, "/")
	tag, err := name.NewTag(registry+"/"+a.repository+":"+o.Version, options...)
	// Without a host in it the name would mean a registry that is nobody's choice.
	host, _, _ := strings.Cut(registry, "/")
	if err == nil && (tag.RegistryStr() != host || strings.HasSuffix(host, ":")) { // https: is no host
		err = errors.New("no host")
	}
	if err != nil {
		return tag, fmt.Errorf("registry %q: want a host with an optional port and path, such as registry.example/team: %w",
			o.Registry, err)
	}
	return tag, nil
}

// push is what is to be done with one artifact.
type push struct {
	tag     name.Tag
	index   v1.ImageIndex // of the artifact's OCI layout
	content v1.Descriptor // of the artifact there
	done    bool          // it is in the registry already
}

func (p push) String() string {
	text := p.tag.String() + "@" + p.content.Digest.String()
	if p.done {
		text += " is there already"
	}
	return text
}

// prepare unpacks an artifact into a folder, and asks the registry for it.
func (o PublishOptions) prepare(ctx context.Context, a artifact, tag name.Tag, folder string) (p push, err error) {
	p.tag = tag
	if p.index, p.content, err = readLayout(filepath.Join(o.Folder, a.archive(o.Version)), folder); err != nil {
		return p, err
	}
	there, err := remote.Head(tag, o.access(ctx)...)
	var failed *transport.Error
	switch {
	case err == nil && there.Digest != p.content.Digest:
		return p, fmt.Errorf("this version is there as %s, and the release has %s: want another version", there.Digest, p.content.Digest)
	case err == nil:
		p.done = true
	case !errors.As(err, &failed) || failed.StatusCode != http.StatusNotFound:
		return p, err
	}
	return p, nil
}

func (PublishOptions) access(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}

// run pushes the artifact unless it is in the registry.
func (p push) run(access []remote.Option) error {
	if p.done {
		return nil
	}
	if p.content.MediaType.IsIndex() {
		images, err := p.index.ImageIndex(p.content.Digest)
		if err != nil {
			return err
		}
		return remote.WriteIndex(p.tag, images, access...)
	}
	img, err := p.index.Image(p.content.Digest)
	if err != nil {
		return err
	}
	return remote.Write(p.tag, img, access...)
}

// readLayout unpacks an OCI layout into a folder, and returns its index with the only thing in it.
func readLayout(archive, folder string) (v1.ImageIndex, v1.Descriptor, error) {
	files, err := readTar(archive)
	if err != nil {
		return nil, v1.Descriptor{}, err
	}
	for _, f := range files {
		if !filepath.IsLocal(f.name) {
			return nil, v1.Descriptor{}, fmt.Errorf("%s has a file %q: want one within the folder", archive, f.name)
		}
		file := filepath.Join(folder, f.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, f.data, 0o644)); err != nil {
			return nil, v1.Descriptor{}, fmt.Errorf("unpack %s: %w", archive, err)
		}
	}
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("read %s: %w", archive, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, v1.Descriptor{}, fmt.Errorf("read %s: %w", archive, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, v1.Descriptor{}, fmt.Errorf("%s holds %d things: want one", archive, len(manifest.Manifests))
	}
	return index, manifest.Manifests[0], nil
}
