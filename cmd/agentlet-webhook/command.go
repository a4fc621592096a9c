package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	goruntime "runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/agentlet/agentlet/certs"
	"github.com/agentlet/agentlet/internal/openshift"
	"github.com/agentlet/agentlet/internal/version"
	"github.com/agentlet/agentlet/webhook"
	"github.com/agentlet/agentlet/webhook/grants"
	"github.com/agentlet/agentlet/webhook/namespaces"
	"github.com/agentlet/agentlet/webhook/platform"
)

func newCommand() *cobra.Command {
	o := defaultOptions()
	command := &cobra.Command{
		Use:           "agentlet-webhook",
		Short:         "Adds the agentlet to annotated pods at admission",
		Args:          cobra.NoArgs,
		Version:       version.Version,
		SilenceUsage:  true, // print no usage for errors of the running server
		SilenceErrors: true, // main prints the error once
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			return run(command.Context(), o, command.ErrOrStderr())
		},
	}
	o.addFlags(command.Flags())
	command.AddCommand(newSelftest(), &cobra.Command{
		Use: "version", Short: "Prints the version of this build", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(command.OutOrStdout(), "agentlet-webhook %s %s %s/%s\n",
				version.Version, goruntime.Version(), goruntime.GOOS, goruntime.GOARCH)
			return err
		},
	})
	return command
}

// source maintains a serving certificate.
type source interface {
	webhook.Certificates
	// Run maintains the certificate until the context ends.
	Run(ctx context.Context) error
}

// run serves until the context ends or a component fails.
func run(ctx context.Context, o *options, logTo io.Writer) error {
	log := o.logger(logTo)
	klog.SetSlogLogger(log.With("component", "kubernetes-client"))
	certificates, err := newSource(o, log)
	if err != nil {
		return fmt.Errorf("create certificate source: %w", err)
	}
	config := webhook.Config{
		Listen: o.listen, MetricsListen: o.metricsListen,
		Certificates: certificates, ShutdownDelay: o.shutdownDelay, Version: version.Version, Log: log,
	}
	if o.clientCA != "" {
		if config.ClientCA, err = webhook.NewClientCA(o.clientCA, log); err != nil {
			return err
		}
	}
	log.InfoContext(ctx, "starting", "version", version.Version, "image", o.injector.Image, "certs", o.certs, "grants", o.grants)
	client, err := newClient()
	if err != nil {
		return err
	}
	decider, err := platform.New(o.injector, func(ctx context.Context) (bool, error) {
		return openshift.AssignsUsers(ctx, client.Discovery().RESTClient())
	}, log)
	if err != nil {
		return fmt.Errorf("create injector: %w", err)
	}
	config.Decider, config.Platform = decider, decider
	known, err := namespaces.New(client)
	if err != nil {
		return fmt.Errorf("create namespaces: %w", err)
	}
	if err := known.LogWarnings(log, o.injector.Defaults); err != nil {
		return err
	}
	config.Namespaces = known
	group, ctx := errgroup.WithContext(ctx)
	if o.grants == grantsAuto {
		granting, err := newGrants(o, client, known, log)
		if err != nil {
			return fmt.Errorf("create grants: %w", err)
		}
		config.Grants = granting
		group.Go(func() error { return granting.Run(ctx) })
	}
	server := webhook.New(config)
	group.Go(func() error { return decider.Run(ctx) })
	group.Go(func() error { return known.Run(ctx) })
	group.Go(func() error { return certificates.Run(ctx) })
	group.Go(func() error { return server.Run(ctx) })
	return group.Wait()
}

// Limits of requests to the API server, per second and in a burst. With grants, the webhook starts a list and a watch for every
// opted-in namespace.
const (
	clientQPS   = 50
	clientBurst = 100
)

func newClient() (kubernetes.Interface, error) {
	config, err := inCluster()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	config.ContentType = runtime.ContentTypeProtobuf // decodes pods in half the time
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create kubernetes client: %w", err)
	}
	return client, nil
}

func newGrants(o *options, client kubernetes.Interface, known *namespaces.Namespaces, log *slog.Logger) (*grants.Grants, error) {
	return grants.New(grants.Config{
		Client: client, Namespaces: known.Informer(), Binding: o.grantBinding, Role: o.grantRole, Policies: o.grantPolicies,
		Excluded: o.excludedNamespaces, Log: log,
	})
}

func inCluster() (*rest.Config, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read in-cluster configuration: %w", err)
	}
	config.UserAgent = "agentlet-webhook/" + version.Version
	config.Proxy = http.ProxyURL(nil) // the API server is in the cluster, whatever HTTPS_PROXY says
	return config, nil
}

func newSource(o *options, log *slog.Logger) (source, error) {
	config, err := inCluster()
	if err != nil {
		return nil, err
	}
	if o.certs == certsSecret {
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return nil, fmt.Errorf("create kubernetes client: %w", err)
		}
		return certs.NewSecret(certs.SecretConfig{
			Client: client, Namespace: o.namespace, Service: o.service, Secret: o.certSecret, Keep: o.keepCABundle,
			Mutating: o.webhookConfiguration, Validating: o.validatingConfiguration, Log: log,
		}), nil
	}
	return certs.NewSelf(certs.SelfConfig{
		REST: config, Namespace: o.namespace, Service: o.service,
		Secret: o.caSecret, Mutating: o.webhookConfiguration, Validating: o.validatingConfiguration, Log: log,
	})
}
