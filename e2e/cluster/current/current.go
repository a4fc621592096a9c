// Package current uses the cluster of the kubeconfig's current context: any cluster, of which nothing is known but its API. It
// runs Consul in pods and installs Agentlet from this tree, in namespaces of its own and under a release name of its own, and
// removes all of it again. It needs no route to nodes or pods: what has to be asked of them goes through the API server.
package current

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/hashicorp/consul/api"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// Names of what is made in the cluster.
const (
	Release         = "agentlet-try"
	SystemNamespace = "agentlet-try"
	ConsulNamespace = "agentlet-try-consul"
	// Label is on every namespace that is made. The webhook looks at no others.
	Label = "agentlet.test/try"
	// Applications is the label's value on namespaces with applications.
	Applications = "applications"
	parts        = "parts"
)

// ConsulPort is the HTTP port of the Consul agents on their nodes. It is not Consul's own, so that agents which are there
// already keep theirs.
const ConsulPort = 18500

// Variables that tell a program which cluster and which image it uses.
const (
	ContextVariable = "AGENTLET_CONTEXT"
	ImageVariable   = "AGENTLET_IMAGE"
)

// Cluster is the cluster of a context.
type Cluster struct {
	// Context is the context's name in the kubeconfig, Server the URL of its API server.
	Context, Server string
	Kube            kubernetes.Interface
	// Image contains Agentlet's programs and the sample.
	Image string
	// Root is the repository's folder.
	Root string

	config *rest.Config
	log    io.Writer
}

// Open returns the cluster of a context, or of the current one if the name is empty. It unsets Consul's variables, such as a
// token for another Consul, which its client would send to this one.
func Open(name string, log io.Writer) (*Cluster, error) {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "CONSUL_") {
			if err := os.Unsetenv(name); err != nil {
				return nil, fmt.Errorf("unset %s: %w", name, err)
			}
		}
	}
	root, err := toolchain.Root()
	if err != nil {
		return nil, err
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{CurrentContext: name})
	raw, err := loader.RawConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	if name == "" {
		name = raw.CurrentContext
	}
	if name == "" {
		return nil, errors.New("the kubeconfig has no current context: choose one with kubectl config use-context NAME")
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read context %s of the kubeconfig: %w", name, err)
	}
	config.QPS, config.Burst = 50, 100 // scenarios poll; a stranger's API server is still to be spared
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return &Cluster{
		Context: name, Server: config.Host, Kube: client, Root: root, config: config, log: log,
	}, nil
}

// Attach returns the cluster that Up has prepared, by the variables that Environment returns.
func Attach(log io.Writer) (*Cluster, error) {
	c, err := Open(os.Getenv(ContextVariable), log)
	if err != nil {
		return nil, err
	}
	c.Image = os.Getenv(ImageVariable)
	return c, nil
}

// Environment returns the variables for a program that attaches to the cluster.
func (c *Cluster) Environment() []string {
	return []string{ContextVariable + "=" + c.Context, ImageVariable + "=" + c.Image}
}

// Kubectl runs kubectl with this context, and returns its output.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, _, err := c.run(ctx, "", "kubectl", append([]string{"--context=" + c.Context}, args...)...)
	return out, err
}

// KubectlSays is Kubectl that also returns what kubectl says on the standard error, such as warnings of the API server.
func (c *Cluster) KubectlSays(ctx context.Context, args ...string) (string, error) {
	out, said, err := c.run(ctx, "", "kubectl", append([]string{"--context=" + c.Context}, args...)...)
	return out + said, err
}

func (c *Cluster) helm(ctx context.Context, input string, args ...string) error {
	where := []string{"--kube-context=" + c.Context, "--namespace=" + SystemNamespace}
	_, _, err := c.run(ctx, input, "helm", append(where, args...)...)
	return err
}

// run runs a program of the PATH in the repository's folder. It returns what it prints, apart from what it says on the standard
// error, as plugins for credentials do. An error has both.
func (c *Cluster) run(ctx context.Context, input, name string, args ...string) (out, said string, err error) {
	var stdout, stderr bytes.Buffer
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Stdin, command.Stdout, command.Stderr = c.Root, strings.NewReader(input), &stdout, &stderr
	command.WaitDelay = toSay // what it has started may hold its output open
	if err = command.Run(); err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String(), stderr.String(), err
}

// Consul returns a client of the Consul server, through the API server.
func (c *Cluster) Consul() (*api.Client, error) {
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("make client of the API server: %w", err)
	}
	address, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return nil, fmt.Errorf("read the API server's address: %w", err)
	}
	path := address.JoinPath("api/v1/namespaces", ConsulNamespace, "pods", "http:consul-server-0:8500", "proxy")
	consul, err := api.NewClient(&api.Config{Address: path.String(), HttpClient: client})
	if err != nil {
		return nil, fmt.Errorf("make Consul client: %w", err)
	}
	return consul, nil
}
