package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/version"
)

// installation is what the webhook's flags fix for every injection; the names and defaults here are the same.
type installation struct {
	config     injector.Config
	pullPolicy string
	defaults   []string // key=value
}

func newInstallation() *installation {
	return &installation{config: injector.Config{
		Image: "agentlet/agentlet:" + version.Version, ConsulPort: 8500, ConsulScheme: "http",
	}, pullPolicy: string(corev1.PullIfNotPresent)}
}

func (i *installation) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&i.config.Image, "image", i.config.Image, "image of the agentlet")
	flags.StringVar(&i.pullPolicy, "image-pull-policy", i.pullPolicy, "pull policy of that image")
	flags.IntVar(&i.config.ConsulPort, "consul-port", i.config.ConsulPort, "HTTP port of the Consul agent on each node")
	flags.StringVar(&i.config.ConsulScheme, "consul-scheme", i.config.ConsulScheme, "http or https")
	flags.StringVar(&i.config.ClusterName, "cluster-name", "", "name of this cluster, in each service's meta")
	flags.StringVar(&i.config.AllowedServices, "allowed-services", "*", "comma-separated globs of the service names that pods may register")
	flags.StringArrayVar(&i.defaults, "default", nil, "default for a pod annotation, as KEY=VALUE without the key's prefix; repeatable")
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
	made, err := injector.New(i.config)
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	return made, nil
}
