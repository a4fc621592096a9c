package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/internal/consulflags"
	"github.com/agentlet/agentlet/internal/plugin/installed"
	"github.com/agentlet/agentlet/internal/plugin/manifests"
	"github.com/agentlet/agentlet/internal/version"
)

// installation is what the webhook's flags fix for every injection; the names and defaults here are the same.
type installation struct {
	config     injector.Config
	pullPolicy string
	defaults   []string // key=value
	dialects   []string
	// fromCluster: the webhook's own flags hold where the person has given none.
	fromCluster bool
}

func newInstallation() *installation {
	return &installation{config: injector.Config{
		Image: "agentlet/agentlet:" + version.Version,
	}, pullPolicy: string(corev1.PullIfNotPresent)}
}

func (i *installation) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&i.config.Image, "image", i.config.Image, "image of the agentlet")
	flags.StringVar(&i.pullPolicy, "image-pull-policy", i.pullPolicy, "pull policy of that image")
	flags.StringSliceVar(&i.config.ImagePullSecrets, "image-pull-secrets", nil, "names of Secrets in the pods' namespaces that it is pulled with")
	consulflags.Add(flags, &i.config)
	flags.StringVar(&i.config.ClusterName, "cluster-name", "", "name of this cluster, in each service's meta")
	flags.StringVar(&i.config.AllowedServices, "allowed-services", "*", "comma-separated globs of the service names that pods may register; !GLOB denies")
	flags.StringVar(&i.config.AllowedTags, "allowed-tags", "*", "comma-separated globs of the tags that pods may register; !GLOB denies")
	flags.StringArrayVar(&i.defaults, "default", nil, "default for a pod annotation, as KEY=VALUE without the key's prefix; repeatable")
	flags.BoolVar(&i.fromCluster, "from-cluster", false, "take these settings, where they are not given, and the namespaces' allowed-services and allowed-tags from the installation in the cluster; without it no cluster is asked")
	flags.StringSliceVar(&i.dialects, "dialect", nil, "another system whose pod annotations are read, too: katalog-sync or consul-k8s; repeatable")
}

// anyProxy stands for the image of mesh proxies, which only an installation knows.
const anyProxy = "consul-and-envoy"

// decider judges as the webhook would.
func (i *installation) decider(command *cobra.Command, kube *kube) (manifests.Decider, error) {
	if !i.fromCluster {
		if i.config.Connect.Image == "" && i.config.ConsulTLS.CA == "" {
			i.config.Connect.Image = anyProxy
		}
		return i.injector()
	}
	client, err := kube.client()
	if err != nil {
		return nil, err
	}
	webhook, err := installed.Flags(command.Context(), client)
	if err != nil {
		return nil, fmt.Errorf("read the installation: %w", err)
	}
	if err := take(command.Flags(), webhook); err != nil {
		return nil, fmt.Errorf("read the webhook's flags: %w", err)
	}
	namespaces, err := installed.NamespaceAnnotations(command.Context(), client)
	if err != nil {
		return nil, fmt.Errorf("read the installation: %w", err)
	}
	judge, err := i.injector()
	if err != nil {
		return nil, err
	}
	return inCluster{judge, namespaces}, nil
}

// take gives the flags that the person has not given the webhook's values. What the webhook alone has doesn't matter here.
func take(flags *pflag.FlagSet, webhook []string) error {
	given := map[string]bool{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = true })
	for _, arg := range webhook {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if flags.Lookup(name) == nil || given[name] || reserved[name] {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
	}
	return nil
}

// reserved are flags of the webhook's that mean another thing here.
var reserved = map[string]bool{"namespace": true}

// inCluster judges with the namespaces' own annotations.
type inCluster struct {
	judge      *injector.Injector
	namespaces map[string]map[string]string
}

func (c inCluster) Decide(request injector.Request) injector.Decision {
	request.NamespaceAnnotations = c.namespaces[request.Namespace]
	return c.judge.Decide(request)
}

// injector is the webhook's own, so configured.
func (i *installation) injector() (*injector.Injector, error) {
	i.config.ImagePullPolicy = corev1.PullPolicy(i.pullPolicy)
	i.config.Defaults = registration.Defaults{}
	for _, pair := range i.defaults {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, fmt.Errorf("--default %q: must be KEY=VALUE", pair)
		}
		i.config.Defaults[key] = value
	}
	i.config.Dialects = dialect.Named(i.dialects)
	made, err := injector.New(i.config)
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	return made, nil
}
