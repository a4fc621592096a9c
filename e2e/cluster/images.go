package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/agentlet/agentlet/hack/image"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// PauseImage is the sandbox image, which every node has. It is also used as a container that does nothing.
const PauseImage = "agentlet.test/pause:e2e"

// LoadImage imports an image tarball into every node, under the name in the tarball. Pods use it with imagePullPolicy
// IfNotPresent or Never.
func (c *Cluster) LoadImage(ctx context.Context, tarball string) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		group.Go(func() error { return n.loadImage(ctx, tarball) })
	}
	return group.Wait()
}

func (n *Node) loadImage(ctx context.Context, tarball string) error {
	err := run(ctx, "ctr", "--address", n.ContainerdSocket(), "--namespace", "k8s.io", "images", "import", tarball)
	if err != nil {
		return fmt.Errorf("load image on %s: %w", n.Name, err)
	}
	return nil
}

// BuildImage compiles a main package without cgo, puts the program into an image at /NAME (the package's last element), and
// writes a tarball for LoadImage. dir is a folder of the package's module.
func BuildImage(ctx context.Context, dir, pkg, reference, tarball string) (err error) {
	temporary, err := os.MkdirTemp("", "image-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	program := filepath.Join(temporary, filepath.Base(pkg))
	args := append([]string{"CGO_ENABLED=0", "go", "build", "-C", dir}, strings.Fields(toolchain.CompileFlags)...)
	err = run(ctx, "env", append(args, "-ldflags=-s -w", "-o", program, pkg)...)
	if err != nil {
		return fmt.Errorf("compile %s: %w", pkg, err)
	}
	img, err := image.Build(image.Spec{Files: []image.File{{Path: "/" + filepath.Base(pkg), Source: program}}})
	if err != nil {
		return err
	}
	return image.WriteTarball(tarball, reference, img)
}

// ConsulImage contains the program consul in its PATH. It is large, so only the scenarios that need it load it.
const ConsulImage = "agentlet.test/consul:e2e"

// LoadConsul imports ConsulImage into every node. The tarball is built once per version and cached beside the program.
func (c *Cluster) LoadConsul(ctx context.Context) error {
	program := c.tools.Program(toolchain.Consul, "consul")
	tarball := program + ".tar"
	if _, err := os.Stat(tarball); err != nil {
		img, err := image.Build(image.Spec{Files: []image.File{{Path: "/bin/consul", Source: program}}, Env: []string{"PATH=/bin"}})
		if err != nil {
			return err
		}
		half := tarball + ".new"
		if err := image.WriteTarball(half, ConsulImage, img); err != nil {
			return err
		}
		if err := os.Rename(half, tarball); err != nil {
			return fmt.Errorf("keep consul's image: %w", err)
		}
	}
	return c.LoadImage(ctx, tarball)
}

// buildPause builds the tarball of the sandbox image.
func (l layout) buildPause(ctx context.Context) (string, error) {
	root, err := toolchain.Root()
	if err != nil {
		return "", err
	}
	tarball := l.path("pause.tar")
	return tarball, BuildImage(ctx, filepath.Join(root, "e2e"), "./images/pause", PauseImage, tarball)
}
