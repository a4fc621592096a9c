package main

import (
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"
)

// kube finds the cluster as kubectl does.
type kube struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides *clientcmd.ConfigOverrides
}

func newKube() *kube {
	return &kube{rules: clientcmd.NewDefaultClientConfigLoadingRules(), overrides: &clientcmd.ConfigOverrides{}}
}

func (k *kube) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&k.rules.ExplicitPath, "kubeconfig", "", "path of the kubeconfig file")
	flags.StringVar(&k.overrides.CurrentContext, "context", "", "context of the kubeconfig file")
	flags.StringVarP(&k.overrides.Context.Namespace, "namespace", "n", "", "namespace")
}

func (k *kube) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(k.rules, k.overrides)
}

// namespace is the one of the flag, or of the context, or else default.
func (k *kube) namespace() string {
	namespace, _, err := k.config().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}
