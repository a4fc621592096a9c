package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// anImage is the value that the chart requires.
const anImage = "image.repository=registry.example/agentlet"

// chart lints the chart with Helm 4, renders it, and runs its unit tests, whose engine is Helm 3.
func chart(ctx context.Context, t *tree) error {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Helm, toolchain.HelmUnittest)
	if err != nil {
		return err
	}
	helm, folder := tools.Program(toolchain.Helm, "helm"), filepath.Join(t.root, "charts", "agentlet")
	return errors.Join(
		show(ctx, t.root, nil, helm, "lint", "--strict", "--quiet", "--set", anImage, folder),
		renders(ctx, helm, folder, "--set", anImage),
		renders(ctx, helm, folder, "--values", filepath.Join(folder, "tests", "everything.yaml")),
		show(ctx, t.root, nil, tools.Program(toolchain.HelmUnittest, "helm-unittest"), folder),
	)
}

// renders renders the chart twice, compares the results, and reads one. Some tools apply the rendered chart themselves: a random
// or looked-up value would cause a change each time, and they refuse what Helm takes.
func renders(ctx context.Context, helm, folder string, values ...string) error {
	var renderings [2][]byte
	for i := range renderings {
		args := append([]string{"template", "agentlet", folder, "--namespace", "agentlet-system"}, values...)
		command := exec.CommandContext(ctx, helm, args...)
		command.Stderr = os.Stderr
		var err error
		if renderings[i], err = command.Output(); err != nil {
			return fmt.Errorf("helm template: %w", err)
		}
	}
	if !bytes.Equal(renderings[0], renderings[1]) {
		return errors.New("two renderings of the chart differ")
	}
	return readStrictly(renderings[0])
}

// readStrictly returns an error where a document of a stream is no YAML, or has a key twice. Helm takes the last one of these.
func readStrictly(stream []byte) error {
	for decoder := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var document any
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the rendered chart: %w", err)
		}
	}
}
