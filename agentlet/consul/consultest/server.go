// Package consultest starts the real Consul for tests.
package consultest

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// Binary is the environment variable with the path of the consul program; make test sets it.
const Binary = "AGENTLET_TEST_CONSUL"

// Agent is a Consul server that is its own agent, on loopback and in memory.
type Agent struct {
	// Address of its HTTP API, host:port; of its HTTPS API where it is secured.
	Address string
	// Client with all rights, over plain HTTP.
	Client *api.Client
	// Process, for tests that stop it.
	Process *os.Process
}

// Start runs an agent until the test's end and waits until it has a leader. configuration is more of it, in HCL.
// Without the program the test is skipped, with CI=true it fails.
func Start(t testing.TB, configuration ...string) *Agent {
	t.Helper()
	return start(t, false, strings.Join(configuration, "\n"))
}

// ManagementToken of a secured agent.
const ManagementToken = "00000000-0000-4000-8000-00000000acce"

// StartSecured is Start with ACLs that deny by default, and with HTTPS beside plain HTTP. The pair is the agent's
// certificate; it has to be for localhost. With mutual it asks for client certificates.
func StartSecured(t testing.TB, authority *Authority, pair Pair, mutual bool) *Agent {
	t.Helper()
	folder := t.TempDir()
	files := map[string][]byte{"ca.crt": authority.PEM, "tls.crt": pair.Certificate, "tls.key": pair.Key}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return start(t, true, fmt.Sprintf(`
acl {
  enabled = true
  default_policy = "deny"
  token_ttl = "1s"
  tokens { initial_management = %[1]q, agent = %[1]q }
}
tls { https { ca_file = "%[2]s/ca.crt", cert_file = "%[2]s/tls.crt", key_file = "%[2]s/tls.key", verify_incoming = %[3]t } }
`, ManagementToken, folder, mutual))
}

func start(t testing.TB, secured bool, more string) *Agent {
	t.Helper()
	if os.Getenv(Binary) == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not set: no Consul to test with", Binary)
		}
		t.Skipf("SKIPPED: %s is not set: no Consul to test with", Binary)
	}
	ports := FreePorts(t, 5)
	https := -1
	if secured {
		https = ports[4]
	}
	config := fmt.Sprintf(
		`ports { http = %d, https = %d, server = %d, serf_lan = %d, serf_wan = %d, grpc = -1, grpc_tls = -1, dns = -1 }
performance { raft_multiplier = 1 }
%s`,
		ports[0],
		https,
		ports[1],
		ports[2],
		ports[3],
		more,
	)
	file := t.TempDir() + "/agent.hcl"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	process := Run(t, nil, "agent", "-dev", "-node=test-node", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn",
		"-config-file="+file)
	agent := &Agent{Address: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])), Process: process}
	client, err := api.NewClient(&api.Config{Address: agent.Address, Token: ManagementToken, Transport: &http.Transport{}})
	if err != nil {
		t.Fatal(err)
	}
	agent.Client = client
	if secured {
		agent.Address = net.JoinHostPort("127.0.0.1", strconv.Itoa(https))
	}
	agent.awaitLeader(t)
	return agent
}

// Run runs the consul program until the test's end, with this environment beside the test's own.
func Run(t testing.TB, environment []string, arguments ...string) *os.Process {
	t.Helper()
	command := exec.CommandContext(context.WithoutCancel(t.Context()), os.Getenv(Binary), arguments...)
	command.Env = append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return command.Process
}

func (a *Agent) awaitLeader(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		services, _, err := a.Client.Catalog().Service("consul", "", (&api.QueryOptions{}).WithContext(ctx))
		if err == nil && len(services) > 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("Consul has no leader: %v", err)
		case <-ticker.C:
		}
	}
}

// FreePorts are ports of the loopback at which nothing listened a moment ago.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// Proxy is the one instance by which the mesh reaches a service, or nil.
func (a *Agent) Proxy(t testing.TB, service string) *api.ServiceEntry {
	t.Helper()
	entries, _, err := a.Client.Health().Connect(service, "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		return nil
	}
	return entries[0]
}

// HearIntentions has an agent ask its servers what intentions say of a destination. Until then it may answer the
// built-in proxy from its cache, which since Consul 1.22.5 may stop following the servers when the request that filled
// it has ended (hashicorp/consul#23368). The client's token has to be the proxy's, as each has a cache of its own. The
// index is one that no answer has, so that what is cached won't do.
func HearIntentions(ctx context.Context, agent *api.Client, destination string) error {
	query := &api.IntentionMatch{
		By:    api.IntentionMatchDestination,
		Names: []string{"default/default/" + destination},
	} // in full, as the cache has it
	options := &api.QueryOptions{UseCache: true, WaitIndex: math.MaxUint64, WaitTime: 100 * time.Millisecond}
	_, _, err := agent.Connect().IntentionMatch(query, options.WithContext(ctx))
	return err
}
