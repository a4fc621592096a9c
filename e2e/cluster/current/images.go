package current

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/agentlet/agentlet/hack/image"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// Options says how images come to the cluster's nodes.
type Options struct {
	// Images is kind, k3d, minikube, registry, present or command. Empty: by Image, Load or the context's name.
	Images string
	// Image is the image's name, with registry to push it there, with present to take what is there.
	Image string
	// Load is a command that brings the image of a tarball, its last argument, to the nodes.
	Load string
	// PlainHTTP is for a registry without TLS.
	PlainHTTP bool
}

// method brings an image to the nodes.
type method struct {
	// load is the command for a tarball, without the tarball's name, and after what follows it; empty for a registry.
	load, after []string
	push        bool
}

// ways are the values of Options.Images.
const ways = "kind, k3d, minikube, registry, present or command"

// method returns how the image comes to the nodes of a context's cluster.
func (o Options) method(context string) (method, error) {
	images := o.Images
	if images == "" {
		images = o.guess(context)
	}
	switch {
	case images == "":
		return method{}, fmt.Errorf("the context %s is not called as kind, k3d and minikube call theirs: want IMAGES=kind, k3d or "+
			"minikube; or IMAGE=registry/name:tag, to which the image is pushed; or LOAD='a command that takes a tarball'", context)
	case o.Load != "" && images != "command":
		return method{}, fmt.Errorf("LOAD=%s with IMAGES=%s: want IMAGES=command, or one of both alone", o.Load, images)
	case o.Image != "" && images != "registry" && images != "present":
		return method{}, fmt.Errorf("IMAGE=%s with IMAGES=%s: want IMAGES=registry or present, or no IMAGE", o.Image, images)
	}
	switch images {
	case "kind":
		cluster := strings.TrimPrefix(context, "kind-")
		return method{load: []string{"kind", "load", "image-archive"}, after: []string{"--name", cluster}}, nil
	case "k3d":
		cluster := strings.TrimPrefix(context, "k3d-")
		return method{load: []string{"k3d", "image", "import"}, after: []string{"--cluster", cluster}}, nil
	case "minikube":
		return method{load: []string{"minikube", "image", "load"}, after: []string{"--profile", context}}, nil
	case "command":
		if strings.TrimSpace(o.Load) == "" {
			return method{}, errors.New("IMAGES=command without LOAD: want LOAD='a command that takes a tarball'")
		}
		return method{load: []string{"sh", "-c", o.Load + ` "$@"`, "sh"}}, nil
	case "registry", "present":
		if _, err := name.NewTag(o.Image, name.StrictValidation); err != nil {
			return method{}, fmt.Errorf("IMAGE=%s with IMAGES=%s: want registry/name:tag", o.Image, images)
		}
		return method{push: images == "registry"}, nil
	}
	return method{}, fmt.Errorf("IMAGES=%s: want %s", images, ways)
}

// guess returns the way that the other options or the context's name suggest.
func (o Options) guess(context string) string {
	switch {
	case o.Load != "":
		return "command"
	case o.Image != "":
		return "registry"
	case strings.HasPrefix(context, "kind-"):
		return "kind"
	case strings.HasPrefix(context, "k3d-"):
		return "k3d"
	case context == "minikube":
		return "minikube"
	}
	return ""
}

// dir returns the folder for what is made on this machine.
func (c *Cluster) dir() string { return filepath.Join(c.Root, ".out", "current") }

// bringImage builds the image for the nodes' architecture, unless it is present, and brings it to the nodes.
func (c *Cluster) bringImage(ctx context.Context, o Options, m method, architecture string) error {
	if m.load == nil && !m.push {
		c.Image = o.Image
		return nil
	}
	img, err := c.buildImage(ctx, architecture)
	if err != nil {
		return err
	}
	if m.push {
		c.Image, err = push(ctx, o, img)
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return fmt.Errorf("compute the image's digest: %w", err)
	}
	c.Image = "agentlet.test/try:" + digest.Hex[:12]
	tarball := filepath.Join(c.dir(), "image.tar")
	if err := image.WriteTarball(tarball, c.Image, img); err != nil {
		return err
	}
	args := append(append(m.load[1:len(m.load):len(m.load)], tarball), m.after...)
	_, _, err = c.run(ctx, "", m.load[0], args...)
	return err
}

// push pushes an image, and returns its name with the digest: a node that has an older image of this tag pulls the new one.
func push(ctx context.Context, o Options, img v1.Image) (string, error) {
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("compute the image's digest: %w", err)
	}
	var options []name.Option
	if o.PlainHTTP {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(o.Image, options...)
	if err != nil {
		return "", fmt.Errorf("IMAGE=%s: %w", o.Image, err)
	}
	if err := remote.Write(tag, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("push %s: %w", o.Image, err)
	}
	return o.Image + "@" + digest.String(), nil
}

// buildImage builds one image with all programs.
func (c *Cluster) buildImage(ctx context.Context, architecture string) (v1.Image, error) {
	bin := filepath.Join(c.dir(), "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	for _, build := range []struct {
		dir      string
		packages []string
	}{
		{c.Root, []string{"./cmd/agentlet", "./cmd/agentlet-webhook"}},
		{filepath.Join(c.Root, "e2e"), []string{"./images/sample"}},
	} {
		what := append(strings.Fields(toolchain.CompileFlags), build.packages...)
		command := exec.CommandContext(ctx, "go", append([]string{"build", "-v", "-ldflags=-s -w", "-o", bin + "/"}, what...)...)
		command.Dir = build.dir
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
		if err := toolchain.Watch(ctx, c.log, strings.Join(build.packages, " "), command, what); err != nil {
			return nil, err
		}
	}
	var files []image.File
	for _, program := range []string{"agentlet", "agentlet-webhook", "sample"} { // the first is the entrypoint
		files = append(files, image.File{Path: "/" + program, Source: filepath.Join(bin, program)})
	}
	return image.Build(image.Spec{Files: files, Architecture: architecture})
}
