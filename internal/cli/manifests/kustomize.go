package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Kustomize reads what "kubectl kustomize" makes of a folder or an address. It is the kustomize of the user's kubectl, so this is what
// "kubectl apply -k" would apply. Linking kustomize would make another version of it, and the program a third larger.
func Kustomize(ctx context.Context, folder string) (file *File, diagnostics []Diagnostic, err error) {
	command := exec.CommandContext(ctx, "kubectl", "kustomize", "--", folder) //nolint:gosec // the user's own folder
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return nil, nil, errors.New("-k runs kubectl kustomize, and kubectl is not on the PATH: pipe the output of kustomize build into -f -")
		}
		if said := strings.TrimSpace(errs.String()); said != "" {
			err = errors.New(shownText(strings.TrimPrefix(said, "error: "), folder))
		}
		return nil, nil, fmt.Errorf("kubectl kustomize %s: %w", Shown(folder), err)
	}
	file, diagnostics = Parse(Shown(folder)+" (kustomize)", out.Bytes())
	return file, diagnostics, nil
}
