// Package clients runs clients that follow a service in Consul, with the configurations of docs/clients.md: nginx, with upstreams
// from consul-template or from DNS, and CoreDNS, which forwards Consul's names.
package clients

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/agentlet/agentlet/e2e/programs/daemon"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// Example returns a file of docs/clients with replacements, as pairs of old and new text. A missing old text is an error.
func Example(name string, pairs ...string) (string, error) {
	root, err := toolchain.Root()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(filepath.Join(root, "docs", "clients", name))
	if err != nil {
		return "", fmt.Errorf("read example: %w", err)
	}
	text := string(content)
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			return "", fmt.Errorf("%s has no %q", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text, nil
}

func write(file, content string) error {
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// CoreDNS starts a CoreDNS that answers names below consul. at port 53 of an address, as in docs/clients.md, and forwards to
// Consul's DNS port. At port 5353 it caches answers with the cache plugin's defaults.
func CoreDNS(ctx context.Context, dir, address, consul string) (*daemon.Daemon, error) {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.CoreDNS)
	if err != nil {
		return nil, err
	}
	bound, err := Example("Corefile", "errors\n", "errors\n    bind "+address+"\n", "10.0.0.11:8600 10.0.0.12:8600", consul)
	if err != nil {
		return nil, err
	}
	kept := strings.NewReplacer("consul:53 ", "consul:5353 ", "cache 1\n", "cache\n").Replace(bound)
	file := filepath.Join(dir, "Corefile")
	if err := write(file, bound+kept); err != nil {
		return nil, err
	}
	return daemon.Start(ctx, daemon.Listening(address+":53"), tools.Program(toolchain.CoreDNS, "coredns"), "-conf="+file)
}
