package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// vulnerabilities is govulncheck's database, unless its variable GOVULNDB names another one.
const vulnerabilities = "https://vuln.go.dev"

var vulncheckStep = step{"vulnerabilities", vulncheck}

// vulncheck looks for known vulnerabilities in what the modules call. Those that no call leads to are no failure.
func vulncheck(ctx context.Context, t *tree) error {
	if err := reachDatabase(ctx, cmp.Or(os.Getenv("GOVULNDB"), vulnerabilities)); err != nil {
		return fmt.Errorf("%w: nothing was looked for: %w", errSkipped, err)
	}
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Govulncheck)
	if err != nil {
		return err
	}
	var found []error
	for _, dir := range []string{t.root, t.hack, t.e2e} {
		err := show(ctx, dir, nil, tools.Program(toolchain.Govulncheck, "govulncheck"), "./...")
		if failed := (*exec.ExitError)(nil); errors.As(err, &failed) && failed.ExitCode() == vulnerable {
			err = fmt.Errorf("%s calls something vulnerable", dir)
		}
		found = append(found, err)
	}
	return errors.Join(found...)
}

// vulnerable is govulncheck's exit code if it has found something.
const vulnerable = 3

// reachTimeout is how long the database may take to answer a small request.
const reachTimeout = 20 * time.Second

// reachDatabase returns an error if govulncheck could not use the database. A folder (file://) is left to govulncheck.
func reachDatabase(ctx context.Context, address string) error {
	if strings.HasPrefix(address, "file://") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(address, "/")+"/index/db.json", nil)
	if err != nil {
		return fmt.Errorf("GOVULNDB=%q: want a URL: %w", address, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the database of vulnerabilities can't be reached: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the database of vulnerabilities can't be used: %s says %s", address, response.Status)
	}
	return nil
}
