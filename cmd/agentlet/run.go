package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/api"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/kube"
	"github.com/agentlet/agentlet/agentlet/probe"
	"github.com/agentlet/agentlet/internal/connlimit"
	"github.com/agentlet/agentlet/internal/version"
)

// run runs the registrar, from its start to the end of its drain.
func run(ctx context.Context, o options, stderr io.Writer) error {
	// The registrar does little work every few seconds. More processors, or less frequent garbage collection, would only cost
	// memory.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(50)

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, preStopSignal)
	defer signal.Stop(signals)

	log := o.logger(stderr)
	klog.SetSlogLogger(log.With("component", "kubernetes-client")) // log the API server's warnings
	registrar, pod, client, err := assemble(o, log)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version.Version, "namespace", o.identity.Namespace, "pod", o.identity.Pod,
		"uid", o.identity.UID, "node", o.identity.Node, "consul", o.consul.Address)

	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { pod.Watch(ctx, log, registrar) })
	group.Go(func() { serve(ctx, o, registrar, log) })
	group.Go(func() { relay(ctx, signals, registrar) })
	err = registrar.Run(ctx)
	if registrar.PodEnded() {
		reclaim(ctx, client, log)
	}
	return err
}

// reclaim deletes the mesh proxy's Consul token.
func reclaim(ctx context.Context, client *consul.Client, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reclaimBound)
	defer cancel()
	if err := client.Reclaim(ctx); err != nil {
		log.Warn("the mesh proxy's token is left in Consul", "error", err)
	}
}

// reclaimBound is how long the process waits at its end for Consul to delete the mesh proxy's token.
const reclaimBound = 2 * time.Second

// assemble creates the registrar with its adapters.
func assemble(o options, log *slog.Logger) (*agentlet.Registrar, *kube.Pod, *consul.Client, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("find the API server: %w", err)
	}
	pod, err := kube.NewPod(config, o.identity.Namespace, o.identity.Pod, o.identity.UID)
	if err != nil {
		return nil, nil, nil, err
	}
	o.consul.Logger = log
	client, err := consul.New(o.consul)
	if err != nil {
		return nil, nil, nil, err
	}
	prober := probe.New(o.identity.PodIP)
	connected := agentlet.Config{
		Identity: o.identity, Agent: client, View: client, Catalog: client, Kube: pod, Prober: prober, Hooks: prober,
		Defaults: o.defaults, Allowed: o.allowed, OtherGates: o.gates, Logger: log,
	}
	if o.consul.ACL.Enabled() {
		connected.Login = client
	}
	return agentlet.New(connected), pod, client, nil
}

// relay forwards the process's signals to the registrar.
func relay(ctx context.Context, signals <-chan os.Signal, registrar *agentlet.Registrar) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == preStopSignal {
				registrar.PreStop()
			} else {
				registrar.Terminate()
			}
		}
	}
}

// listenRetry is the time between two attempts to open the port.
const listenRetry = time.Second

// serve serves HTTP until ctx ends. If the port can't be opened, it tells the registrar, and retries.
func serve(ctx context.Context, o options, registrar *agentlet.Registrar, log *slog.Logger) {
	listener := listen(ctx, net.JoinHostPort("", strconv.Itoa(o.port)), registrar)
	if listener == nil {
		return
	}
	if err := api.New(registrar, o.nonce, log).Serve(ctx, listener); err != nil {
		registrar.PortConflict(err)
	}
}

func listen(ctx context.Context, address string, registrar *agentlet.Registrar) *net.TCPListener {
	ticker := time.NewTicker(listenRetry)
	defer ticker.Stop()
	for failed := false; ; failed = true {
		listener, err := connlimit.Listen(ctx, address)
		if err == nil {
			if failed {
				registrar.PortConflict(nil)
			}
			return listener
		}
		if !failed {
			registrar.PortConflict(fmt.Errorf("open the agentlet's port: %w", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
