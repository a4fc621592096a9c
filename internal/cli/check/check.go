// Package check finds out whether an installation of Agentlet works, from where a person stands: through the API server
// alone, and through Consul's API where an address of it is known. It changes nothing; the one pod that it creates is a dry
// run. Every finding that is not well says what to do.
package check

import (
	"context"
	"errors"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Level of a finding.
type Level string

// The levels, from good to bad. Skip is what could not be looked at.
const (
	OK   Level = "ok"
	Skip Level = "skip"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is what one look has shown.
type Finding struct {
	Level Level `json:"level"`
	// Check that made it: kubernetes, webhook, policy, grants, consul, agentlets, pods, gates or hooks.
	Check string `json:"check"`
	// Subject is the object concerned, empty for the installation as a whole.
	Subject string `json:"subject,omitempty"`
	Message string `json:"message"`
	// Remedy is what to do, empty where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// Cluster asks what runs in the cluster; apiproxy.Cluster does.
type Cluster interface {
	Pod(ctx context.Context, namespace, pod, port, path string) ([]byte, error)
	Node(ctx context.Context, scheme, node string, port int, path string) ([]byte, error)
	Status(ctx context.Context, pod *corev1.Pod) (*contract.Status, error)
}

// Consul is Consul's API at an address that the person gave.
type Consul interface {
	// Version of the agent at that address.
	Version(ctx context.Context) (string, error)
	// Nodes are the catalog's nodes with these addresses, by address; the value is whether Consul takes the node for alive.
	Nodes(ctx context.Context, addresses []string) (map[string]bool, error)
}

// Config of a run.
type Config struct {
	Kube    kubernetes.Interface
	Cluster Cluster
	// Consul is nil where no address was given.
	Consul Consul
	// Namespace bounds what is said of pods; empty for all.
	Namespace string
	// Patience is how long a gate may be closed.
	Patience time.Duration
	// Now is the time to which ages are taken.
	Now time.Time
}

// run is one run under way.
type run struct {
	Config
	facts    facts
	findings []Finding
}

// Run looks at everything, until ctx ends. The findings are in the order of the looks.
func Run(ctx context.Context, config Config) []Finding {
	r := &run{Config: config}
	if !r.kubernetes(ctx) {
		return r.findings
	}
	for _, look := range []func(context.Context){
		r.gather, r.webhook, r.workloads, r.admission, r.policies, r.grants, r.consul, r.agentlets, r.registrations, r.gates, r.hooks,
	} {
		if ctx.Err() != nil {
			break
		}
		look(ctx)
	}
	switch err := ctx.Err(); {
	case errors.Is(err, context.DeadlineExceeded):
		r.add(Fail, "kubernetes", "", "the time is over, and not everything was looked at",
			"give it more time with --timeout, or name a namespace with -n")
	case err != nil:
		r.add(Fail, "kubernetes", "", "the check was ended, and not everything was looked at", "")
	}
	return r.findings
}

// parallel looks at nodes and agentlets: enough for a big cluster, few enough for the API server.
const parallel = 16

// each has look called for every number below n, several at once. The findings are in the numbers' order.
func (r *run) each(n int, look func(r *run, i int)) {
	runs := make([]run, n)
	var group sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for i := range runs {
		runs[i] = run{Config: r.Config, facts: r.facts}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			look(&runs[i], i)
		})
	}
	group.Wait()
	for i := range runs {
		r.findings = append(r.findings, runs[i].findings...)
	}
}

func (r *run) add(level Level, check, subject, message, remedy string) {
	r.findings = append(r.findings, Finding{level, check, subject, message, remedy})
}

// Worst is the worst level of all; what was skipped is not bad.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}
