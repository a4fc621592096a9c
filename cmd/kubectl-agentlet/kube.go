package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/version"
)

// kube finds the cluster as kubectl does.
type kube struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides *clientcmd.ConfigOverrides
}

func newKube() *kube {
	return &kube{rules: clientcmd.NewDefaultClientConfigLoadingRules(), overrides: &clientcmd.ConfigOverrides{}}
}

// addFlags adds kubectl's flags that say which cluster is asked, as whom. They are client-go's own, under kubectl's names.
func (k *kube) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&k.rules.ExplicitPath, "kubeconfig", "", "path of the kubeconfig file")
	bound := clientcmd.RecommendedConfigOverrideFlags("")
	// Left out: no API server takes passwords any more, and kubectl has no flag for a proxy.
	bound.AuthOverrideFlags.Username.LongName, bound.AuthOverrideFlags.Password.LongName = "", ""
	bound.ClusterOverrideFlags.ProxyURL.LongName = ""
	bound.ClusterOverrideFlags.APIServer.ShortName = "s"
	bound.Timeout.Default = requestTimeout.String()
	bound.Timeout.Description = "how long one request to the API server may take, such as 30s; 0 is without end"
	clientcmd.BindOverrideFlags(k.overrides, flags, bound)
}

func (k *kube) config() clientcmd.ClientConfig {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(k.rules, k.overrides)
}

// namespace returns the namespace of the flag, of the context, or "default".
func (k *kube) namespace() string {
	namespace, _, err := k.config().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}

// Limits of requests to the API server, per second and in a burst. A check reads every pod.
const (
	queriesPerSecond = 50
	queriesAtOnce    = 100
)

const (
	// requestTimeout bounds one request by default. The API server itself waits up to 30 s for a webhook, and needs as long to send
	// many pods.
	requestTimeout = time.Minute
	// defaultTimeout bounds all requests of a command to pods, nodes and Consul together.
	defaultTimeout = 2 * time.Minute
)

// restConfig returns how the API server is reached.
func (k *kube) restConfig() (*rest.Config, error) {
	config, err := k.config().ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	return config, k.overrule(config)
}

// overrule sets what client-go does not take from flags in a pod, where there is no kubeconfig file: the timeout, and as whom it
// asks. Without it a command would look with more rights than it was told to.
func (k *kube) overrule(config *rest.Config) error {
	timeout, err := clientcmd.ParseTimeout(k.overrides.Timeout)
	if err != nil || timeout < 0 {
		return fmt.Errorf("--request-timeout %q: must be seconds, or a duration such as 30s or 2m; 0 is without end", k.overrides.Timeout)
	}
	config.Timeout = timeout
	flags, as := &k.overrides.AuthInfo, &config.Impersonate
	as.UserName, as.UID = cmp.Or(flags.Impersonate, as.UserName), cmp.Or(flags.ImpersonateUID, as.UID)
	if len(flags.ImpersonateGroups) > 0 {
		as.Groups = flags.ImpersonateGroups
	}
	return nil
}

func (k *kube) client() (kubernetes.Interface, error) {
	config, err := k.restConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubectl-agentlet/" + version.Version
	config.QPS, config.Burst = queriesPerSecond, queriesAtOnce
	config.WarningHandler = rest.NoWarnings{}
	config.Wrap(apiproxy.BoundAPI)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("create kubernetes client: %w", err)
	}
	return client, nil
}
