package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/agentlet/agentlet/certs"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/version"
	"github.com/agentlet/agentlet/webhook"
)

func newCommand() *cobra.Command {
	o := defaultOptions()
	command := &cobra.Command{
		Use:           "agentlet-webhook",
		Short:         "Adds the agentlet to annotated pods at admission",
		Args:          cobra.NoArgs,
		Version:       version.Version,
		SilenceUsage:  true, // An error of the running server is no question of usage.
		SilenceErrors: true, // main prints it, once.
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return run(command.Context(), o, command.ErrOrStderr())
		},
	}
	o.addFlags(command.Flags())
	command.AddCommand(&cobra.Command{
		Use: "version", Short: "Prints the version of this build", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(command.OutOrStdout(), "agentlet-webhook %s %s %s/%s\n",
				version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	})
	return command
}

// source is a serving certificate that has to be kept.
type source interface {
	webhook.Certificates
	// Run keeps the certificate until the context ends.
	Run(ctx context.Context) error
}

// run serves until the context ends or a part fails.
func run(ctx context.Context, o *options, logTo io.Writer) error {
	log := o.logger(logTo)
	klog.SetSlogLogger(log.With("from", "kubernetes-client"))
	decider, err := injector.New(o.injector)
	if err != nil {
		return fmt.Errorf("create injector: %w", err)
	}
	certificates, err := newSource(o, log)
	if err != nil {
		return fmt.Errorf("create certificate source: %w", err)
	}
	log.InfoContext(ctx, "starting", "version", version.Version, "image", o.injector.Image, "certs", o.certs)
	server := webhook.New(webhook.Config{
		Listen: o.listen, MetricsListen: o.metricsListen,
		Decider: decider, Certificates: certificates,
		ShutdownDelay: o.shutdownDelay, Version: version.Version, Log: log,
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return certificates.Run(ctx) })
	group.Go(func() error { return server.Run(ctx) })
	return group.Wait()
}

func newSource(o *options, log *slog.Logger) (source, error) {
	if o.certs == certsFiles {
		return certs.NewFiles(o.certDir, certs.ServerName(o.service, o.namespace), log), nil
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read in-cluster configuration: %w", err)
	}
	config.UserAgent = "agentlet-webhook/" + version.Version
	return certs.NewSelf(certs.SelfConfig{
		REST: config, Namespace: o.namespace, Service: o.service,
		Secret: o.caSecret, Configuration: o.webhookConfiguration, Log: log,
	})
}
