package scenario

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/agentlet/agentlet/e2e/cluster/current"
	"github.com/agentlet/agentlet/e2e/load/driver"
)

// census counts what ran on the kubeconfig's cluster and what was skipped.
type census struct {
	mu           sync.Mutex
	ran, skipped int
}

// onCurrent runs the tests on the kubeconfig's cluster, which current.Up has prepared. It fails if no scenario ran.
func onCurrent(m *testing.M) int {
	env, err := attachCurrent()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: prepare scenarios:", err)
		return 1
	}
	shared = env
	code := m.Run()
	fmt.Printf("scenarios: %d ran, %d SKIPPED, because they need the test cluster: make e2e without CLUSTER runs those\n",
		env.census.ran, env.census.skipped)
	if env.census.ran == 0 {
		fmt.Println("FAIL: none of the chosen scenarios runs here")
		return 1
	}
	return code
}

func attachCurrent() (*Env, error) {
	c, err := current.Attach(os.Stderr)
	if err != nil {
		return nil, err
	}
	consul, err := c.Consul()
	if err != nil {
		return nil, err
	}
	return &Env{Current: c, Kube: c.Kube, Consul: consul, Root: c.Root, census: &census{}, release: func() error { return nil }}, nil
}

// skipUnlessAnywhere skips a scenario that needs more than the API of a cluster, and counts it.
func (e *Env) skipUnlessAnywhere(t *testing.T, set settings) {
	t.Helper()
	e.census.mu.Lock()
	defer e.census.mu.Unlock()
	if set.anywhere {
		e.census.ran++
		return
	}
	e.census.skipped++
	t.Skipf("SKIPPED on the current context: %s needs the test cluster: its processes, its nodes' disks, or routes to nodes and pods", t.Name())
}

// SampleImage returns the image with the sample. On the kubeconfig's cluster its entrypoint is another one.
func (e *Env) SampleImage() string {
	if e.Current != nil {
		return e.Current.Image
	}
	return SampleImage
}

// consulPort returns the HTTP port of the nodes' Consul agents.
func (e *Env) consulPort() int {
	if e.Current != nil {
		return current.ConsulPort
	}
	return 8500
}

// Driver starts a driver for the scenario's service in its namespace.
func (s *S) Driver() (client driver.Client, state driver.State) {
	s.Helper()
	client = driver.Client{Kube: s.Kube, Namespace: s.Namespace}
	state, err := current.StartDriver(s.Ctx, client, driver.Pod(s.SampleImage(), s.Service(), s.consulPort()))
	s.Must(err)
	return client, state
}
