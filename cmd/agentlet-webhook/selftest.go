package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/internal/dryrun"
)

// newSelftest returns the command that the chart's test runs.
func newSelftest() *cobra.Command {
	var (
		namespace string
		labels    map[string]string
		timeout   time.Duration
	)
	command := &cobra.Command{
		Use: "selftest", Short: "Creates a pod as a dry run, and fails unless it gets an agentlet", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := inCluster()
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("create kubernetes client: %w", err)
			}
			if err := dryrun.Until(command.Context(), timeout, client, namespace, labels); err != nil {
				return err
			}
			_, err = fmt.Fprintf(command.OutOrStdout(),
				"a pod in namespace %s gets an agentlet: the API server reaches and trusts the webhook\n", namespace)
			return err
		},
	}
	command.Flags().StringVar(&namespace, "namespace", "default",
		"an opted-in namespace that allows the service name "+dryrun.Service)
	command.Flags().StringToStringVar(&labels, "labels", nil, "labels of the pod")
	command.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long it is tried")
	return command
}
