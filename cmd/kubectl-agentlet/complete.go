package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// complete adds shell completion for the values of flags and arguments: namespaces, manifests, and names in the kubeconfig file.
func complete(root *cobra.Command, kube *kube) error {
	problems := []error{root.RegisterFlagCompletionFunc("namespace", kube.completeNamespaces)}
	for name, of := range map[string]func(api.Config) []string{
		"context": func(c api.Config) []string { return slices.Sorted(maps.Keys(c.Contexts)) },
		"cluster": func(c api.Config) []string { return slices.Sorted(maps.Keys(c.Clusters)) },
		"user":    func(c api.Config) []string { return slices.Sorted(maps.Keys(c.AuthInfos)) },
	} {
		problems = append(problems, root.RegisterFlagCompletionFunc(name, kube.completeConfig(of)))
	}
	for _, command := range root.Commands() {
		if command.Flags().Lookup("filename") != nil {
			problems = append(problems, command.MarkFlagFilename("filename", manifests.Extensions()...),
				command.MarkFlagDirname("kustomize"))
			command.ValidArgsFunction = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
				return manifests.Extensions(), cobra.ShellCompDirectiveFilterFileExt
			}
		}
	}
	return errors.Join(problems...)
}

// kubectlCompletion is the program that kubectl calls to complete the words of a plugin.
const kubectlCompletion = `#!/bin/sh
# kubectl runs this to complete "kubectl agentlet": name it kubectl_complete-agentlet, make it executable, and put it on the PATH.
exec kubectl agentlet __complete "$@"
`

// addKubectlCompletion adds a flag to cobra's command completion, which knows only shells.
func addKubectlCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	command, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	command.Short = "Prints a completion script for kubectl or for a shell"
	command.Long = `Prints a completion script. kubectl itself completes "kubectl agentlet" where it finds the one of --kubectl on
the PATH, under the name kubectl_complete-agentlet. The scripts for shells are for the program by its own name.`
	command.Example = examples(`
kubectl agentlet completion --kubectl > ~/bin/kubectl_complete-agentlet
chmod +x ~/bin/kubectl_complete-agentlet`)
	forKubectl := command.Flags().Bool("kubectl", false, "print kubectl_complete-agentlet, which kubectl runs")
	command.RunE = func(command *cobra.Command, _ []string) error {
		if !*forKubectl {
			return command.Help()
		}
		if _, err := io.WriteString(command.OutOrStdout(), kubectlCompletion); err != nil {
			return fmt.Errorf("write script: %w", err)
		}
		return nil
	}
}

// completeConfig returns a completion of names in the kubeconfig file.
func (k *kube) completeConfig(names func(api.Config) []string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		config, err := k.config().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return slices.DeleteFunc(names(config), func(name string) bool { return printer.Escape(name) != name }),
			cobra.ShellCompDirectiveNoFileComp
	}
}

// completionTimeout is how long a shell waits for completions.
const completionTimeout = 3 * time.Second

// completeNamespaces returns nothing if the cluster can't be reached.
func (k *kube) completeNamespaces(command *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return k.completeNames(command, func(ctx context.Context, client kubernetes.Interface) (names []string) {
		list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil
		}
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names
	})
}

// completePods returns the namespace's pods with an agentlet, without those that are named already.
func (k *kube) completePods(command *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return k.completeNames(command, func(ctx context.Context, client kubernetes.Interface) (names []string) {
		list, err := client.CoreV1().Pods(k.namespace()).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil
		}
		for i := range list.Items {
			if pod := &list.Items[i]; registration.Agentlet(pod) != nil && !slices.Contains(args, pod.Name) {
				names = append(names, pod.Name)
			}
		}
		return names
	})
}

func (k *kube) completeNames(
	command *cobra.Command,
	list func(ctx context.Context, client kubernetes.Interface) []string,
) ([]cobra.Completion, cobra.ShellCompDirective) {
	client, err := k.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(command.Context(), completionTimeout)
	defer cancel()
	names := slices.DeleteFunc(list(ctx, client), func(name string) bool { // a shell prints completions unescaped
		return len(validation.IsDNS1123Subdomain(name)) > 0
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}
