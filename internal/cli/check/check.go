// Package check verifies an installation of Agentlet from a user's machine: through the API server, and through Consul's API if
// its address is given. It changes nothing; the only pod that it creates is a dry run. Every finding of a problem has a remedy.
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

// Level is the severity of a finding.
type Level string

// The levels, from good to bad. Skip marks a check that was not possible.
const (
	OK   Level = "ok"
	Skip Level = "skip"
	Warn Level = "warn"
	Fail Level = "fail"
)

// Finding is a result of a check.
type Finding struct {
	Level Level `json:"level"`
	// Check is the check that made the finding: kubernetes, webhook, policy, grants, namespaces, consul, agentlets, pods, gates,
	// hooks or limits; and before an installation rights, nodes, platform and mesh.
	Check string `json:"check"`
	// Subject is the object concerned; empty for the installation as a whole.
	Subject string `json:"subject,omitempty"`
	Message string `json:"message"`
	// Remedy says how to fix the problem; empty if there is none.
	Remedy string `json:"remedy,omitempty"`
}

// Cluster calls pods and nodes of the cluster; apiproxy.Cluster implements it.
type Cluster interface {
	Pod(ctx context.Context, namespace, pod, port, path string) ([]byte, error)
	Node(ctx context.Context, scheme, node string, port int, path string) ([]byte, error)
	Status(ctx context.Context, pod *corev1.Pod) (*contract.Status, error)
}

// Consul is Consul's API at an address that the user gave.
type Consul interface {
	// Version returns the version of the agent at that address.
	Version(ctx context.Context) (string, error)
	// Nodes returns the catalog's nodes with these addresses, by address; the value is whether Consul considers the node alive.
	Nodes(ctx context.Context, addresses []string) (map[string]bool, error)
}

// Config configures a run.
type Config struct {
	Kube    kubernetes.Interface
	Cluster Cluster
	// Consul is nil if no address was given.
	Consul Consul
	// Namespace restricts the findings about pods; empty for all namespaces.
	Namespace string
	// ConsulPort and ConsulScheme are those of the nodes' Consul agents where no installation says them; 8500 and http if empty.
	ConsulPort   int
	ConsulScheme string
	// Patience is how long a gate may be closed before it is reported.
	Patience time.Duration
	// Now is the time from which ages are computed.
	Now time.Time
}

// run is the state of one run.
type run struct {
	Config
	facts    facts
	findings []Finding
}

// Run runs all checks, until ctx ends. The findings are in the order of the checks.
func Run(ctx context.Context, config Config) []Finding {
	r := &run{Config: config}
	if !r.kubernetes(ctx) {
		return r.findings
	}
	r.look(ctx, r.gather, r.webhook, r.order, r.workloads, r.admission, r.policies, r.grants, r.annotations, r.consul, r.agentlets,
		r.registrations, r.gates, r.hooks, r.limits)
	return r.findings
}

// look runs checks until ctx ends, and reports an end before the last one.
func (r *run) look(ctx context.Context, looks ...func(context.Context)) {
	for _, look := range looks {
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
}

// parallel is the number of concurrent checks of nodes and agentlets: enough for a large cluster, few enough for the API server.
const parallel = 16

// each calls look concurrently for every number below n. The findings are in the order of the numbers.
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

// Worst returns the worst level of all findings, except skipped checks.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}
