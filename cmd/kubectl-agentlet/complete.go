package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// complete adds shell completion for the values of flags: namespaces, output formats, manifests.
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

// completionTimeout is how long a shell waits for completions.
const completionTimeout = 3 * time.Second

// completeNamespaces returns nothing if the cluster can't be reached.
func (k *kube) completeNamespaces(command *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := k.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
	defer cancel()
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names := make([]cobra.Completion, 0, len(list.Items))
	for i := range list.Items {
		if name := list.Items[i].Name; len(validation.IsDNS1123Label(name)) == 0 { // a shell prints completions unescaped
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
