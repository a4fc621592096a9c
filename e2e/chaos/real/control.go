package real

import (
	"context"
	"time"

	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/cluster"
)

// faults maps each fault of the table to the function that begins it.
func faults() map[string]begin {
	agent := func(do func(context.Context, *World, *cluster.Process) error) func(context.Context, *World, int) error {
		return func(ctx context.Context, w *World, node int) error { return do(ctx, w, w.consul.agents[node]) }
	}
	return map[string]begin{
		"API server stopped":          control(cluster.APIServer, kill, start),
		"API server frozen":           control(cluster.APIServer, pause, resume),
		"API server frozen in bursts": frozenInBursts,
		"API server restarted":        restarted(cluster.APIServer, stop),
		"etcd frozen":                 control(cluster.Etcd, pause, resume),
		"etcd killed":                 restarted(cluster.Etcd, kill),
		"controller manager stopped":  control(cluster.ControllerManager, stop, start),
		"scheduler stopped":           control(cluster.Scheduler, stop, start),

		"Consul's leader killed":                     serversLost(theLeader, kill, start),
		"Consul's leader frozen":                     serversLost(theLeader, pause, resume),
		"Consul's quorum lost":                       serversLost(twoOfThree, kill, start),
		"Consul's server stopped":                    serversLost(theLeader, stop, start),
		"Consul server restarted with its data lost": serversLost(aFollower, wipe, start),

		"Consul agent stopped":              agentLost(agent(stop), start),
		"Consul agent killed":               agentLost(agent(kill), start),
		"Consul agent away, having left":    agentLost(agentLeft, start),
		"Consul agent's data lost":          agentLost(agentDataLost, start),
		"Consul agent frozen":               agentLost(agent(pause), resume),
		"Consul agent's disk full":          diskFull,
		"instance deregistered by somebody": deregistered,
		"instance edited by somebody":       edited,

		"kubelet frozen":                       ofNode(cluster.Kubelet, pause, resume),
		"kubelet killed":                       ofNode(cluster.Kubelet, kill, start),
		"container runtime frozen":             ofNode(cluster.Containerd, pause, resume),
		"container runtime killed":             ofNode(cluster.Containerd, kill, start),
		"kube-proxy killed":                    ofNode(cluster.KubeProxy, kill, start),
		"node cut off":                         onNode((*cluster.Node).Cut, (*cluster.Node).Heal),
		"packets dropped":                      onNode(drop, (*cluster.Node).Deliver),
		"node rebooted":                        rebooted,
		"node short of memory, soft threshold": pressed(softThreshold),
		"node short of memory, hard threshold": pressed(hardThreshold),
		"node shut down":                       shutDown,

		"agentlet killed":                 agentletKilled,
		"agentlet killed again and again": agentletKilledAgain,
		"agentlet frozen":                 agentletFrozen,
		"application killed":              applicationKilled,
		"application unready":             applicationUnready,
		"application flaps":               applicationFlaps,
		"drain called by anybody":         drainCalled,

		"agentlet flooded with connections": floodAgentlet,
		"webhook flooded with connections":  floodWebhook,
		"webhook flooded with reviews":      floodReviews,
		"webhook replica killed":            webhookKilled,
		"webhook replica frozen":            webhookFrozen,
	}
}

// control builds a fault from a pair of actions on a process of the control plane: do begins it, back ends it.
func control(name string, do, back func(context.Context, *World, *cluster.Process) error) begin {
	return func(ctx context.Context, w *World, _ chaos.Step) (string, undo, error) {
		process := w.Cluster.Process(name)
		return "", func(ctx context.Context) (string, error) { return "", back(ctx, w, process) }, do(ctx, w, process)
	}
}

// restarted builds a fault that ends a process of the control plane and starts it at once.
func restarted(name string, end func(context.Context, *World, *cluster.Process) error) begin {
	return func(ctx context.Context, w *World, _ chaos.Step) (string, undo, error) {
		process := w.Cluster.Process(name)
		back := func(ctx context.Context) (string, error) { return "", process.Start(ctx) }
		if err := end(ctx, w, process); err != nil {
			return "", back, err
		}
		return "", back, process.Start(ctx)
	}
}

// Bursts in which the API server is frozen, and the pauses between them.
const (
	burst      = 2 * time.Second
	burstPause = time.Second
)

func frozenInBursts(ctx context.Context, w *World, _ chaos.Step) (string, undo, error) {
	server := w.Cluster.APIServer()
	end := inBackground(ctx, func(ctx context.Context) error {
		for {
			if err := server.Pause(); err != nil {
				return err
			}
			sleep(ctx, burst)
			if err := server.Resume(); err != nil || ctx.Err() != nil {
				return err
			}
			sleep(ctx, burstPause)
			if ctx.Err() != nil {
				return nil //nolint:nilerr // it is told to end so
			}
		}
	})
	return "", func(context.Context) (string, error) { return "", end() }, nil
}

// inBackground runs do until end is called; end returns its error.
func inBackground(ctx context.Context, do func(ctx context.Context) error) (end func() error) {
	ctx, enough := context.WithCancel(context.WithoutCancel(ctx))
	failed := make(chan error, 1)
	go func() { failed <- do(ctx) }()
	return func() error {
		enough()
		err := <-failed
		failed <- nil // for further calls of end
		return err
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// wipe kills a Consul server and removes its data.
func wipe(ctx context.Context, w *World, server *cluster.Process) error {
	if err := server.Kill(ctx); err != nil {
		return err
	}
	return w.Cluster.WipeServerData(server)
}
