package main

import (
	"errors"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// complete lets a shell complete the values of flags: namespaces, forms of output, manifests.
func complete(root *cobra.Command, kube *kube) error {
	problems := []error{root.RegisterFlagCompletionFunc("namespace", kube.completeNamespaces)}
	for _, command := range root.Commands() {
		if command.Flags().Lookup("output") != nil {
			problems = append(problems, command.RegisterFlagCompletionFunc("output",
				cobra.FixedCompletions([]string{outputJSON}, cobra.ShellCompDirectiveNoFileComp)))
		}
		if command.Flags().Lookup("filename") != nil {
			problems = append(problems, command.MarkFlagFilename("filename", "yaml", "yml", "json"))
		}
	}
	return errors.Join(problems...)
}

// completeNamespaces offers nothing where the cluster can't be asked.
func (k *kube) completeNamespaces(command *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := k.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := client.CoreV1().Namespaces().List(command.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
