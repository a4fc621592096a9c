package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// anImage is the value that the chart requires.
const anImage = "image.repository=registry.example/agentlet"

// chart lints the chart with Helm 4, renders it twice, and runs its unit tests, whose engine is Helm 3.
func chart(ctx context.Context, t *tree) error {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Helm, toolchain.HelmUnittest)
	if err != nil {
		return err
	}
	helm, folder := tools.Program(toolchain.Helm, "helm"), filepath.Join(t.root, "charts", "agentlet")
	return errors.Join(
		show(ctx, t.root, nil, helm, "lint", "--strict", "--quiet", "--set", anImage, folder),
		rendersAlike(ctx, helm, folder),
		show(ctx, t.root, nil, tools.Program(toolchain.HelmUnittest, "helm-unittest"), folder),
	)
}

// rendersAlike renders the chart twice and compares the results. Some tools apply the rendered chart themselves: a random or
// looked-up value would cause a change each time.
func rendersAlike(ctx context.Context, helm, folder string) error {
	var renderings [2][]byte
	for i := range renderings {
		command := exec.CommandContext(ctx, helm, "template", "agentlet", folder, "--namespace", "agentlet-system", "--set", anImage)
		command.Stderr = os.Stderr
		var err error
		if renderings[i], err = command.Output(); err != nil {
			return fmt.Errorf("helm template: %w", err)
		}
	}
	if !bytes.Equal(renderings[0], renderings[1]) {
		return errors.New("two renderings of the chart differ")
	}
	return nil
}
