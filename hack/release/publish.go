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
// there already stays; under a version's tag nothing is ever replaced by something else.
func Publish(ctx context.Context, o PublishOptions) error {
	if !semver.MatchString(o.Version) {
		return fmt.Errorf("version %q: want one such as 1.2.3 or 1.2.3-rc.1", o.Version)
	}
	if err := o.verify(); err != nil {
		return err
	}
	for _, a := range artifacts {
		tag, err := o.tag(a)
		if err != nil {
			return err
		}
		if err := o.push(ctx, a, tag); err != nil {
			return fmt.Errorf("push %s: %w", tag, err)
		}
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

// push pushes one artifact.
func (o PublishOptions) push(ctx context.Context, a artifact, tag name.Tag) (err error) {
	folder, err := os.MkdirTemp("", "agentlet-publish-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	index, content, err := readLayout(filepath.Join(o.Folder, a.archive(o.Version)), folder)
	if err != nil {
		return err
	}
	access := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	there, err := remote.Head(tag, access...)
	var failed *transport.Error
	switch {
	case err == nil && there.Digest == content.Digest:
		fmt.Fprintf(o.Log, "%s@%s is there already\n", tag, content.Digest)
		return nil
	case err == nil:
		return fmt.Errorf("this version is there as %s, and the release has %s: want another version", there.Digest, content.Digest)
	case !errors.As(err, &failed) || failed.StatusCode != http.StatusNotFound:
		return err
	}
	if content.MediaType.IsIndex() {
		images, err := index.ImageIndex(content.Digest)
		if err != nil {
			return err
		}
		err = remote.WriteIndex(tag, images, access...)
		if err != nil {
			return err
		}
	} else {
		img, err := index.Image(content.Digest)
		if err != nil {
			return err
		}
		if err := remote.Write(tag, img, access...); err != nil {
			return err
		}
	}
	fmt.Fprintf(o.Log, "%s@%s\n", tag, content.Digest)
	return nil
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
