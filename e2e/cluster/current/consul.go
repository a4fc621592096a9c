package current

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// overlay is what differs from examples/consul/base: names, one server instead of three, ports that nobody has, and nothing on
// the nodes' disks or from a provisioner, so that all of it goes with the namespace.
var overlay = map[string]string{
	"join.hcl": fmt.Sprintf("retry_join = [\"provider=k8s namespace=%s label_selector=\\\"app=consul,component=server\\\"\"]\n",
		ConsulNamespace),
	// Agents join others at the port for gossip that they have themselves.
	"server-try.hcl": "bootstrap_expect = 1\nautopilot {\n  min_quorum = 0\n}\n" +
		fmt.Sprintf("ports {\n  serf_lan = %d\n}\n", gossipPort),
	"client-try.hcl": fmt.Sprintf("ports {\n  http     = %d\n  serf_lan = %d\n  dns      = -1\n}\n", ConsulPort, gossipPort),
	"kustomization.yaml": fmt.Sprintf(`apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: %[1]s
resources: [../../../examples/consul/base]
labels:
- pairs: {%[2]s: %[3]s}
configMapGenerator:
- name: consul-server-config
  behavior: merge
  files: [join.hcl, try.hcl=server-try.hcl]
- name: consul-client-config
  behavior: merge
  files: [join.hcl, try.hcl=client-try.hcl]
patches:
- target: {kind: StatefulSet}
  patch: |-
    - {op: remove, path: /spec/volumeClaimTemplates}
    - {op: add, path: /spec/template/spec/volumes/-, value: {name: data, emptyDir: {}}}
    - {op: replace, path: /spec/replicas, value: 1}
    - {op: remove, path: /spec/minReadySeconds}
    - {op: remove, path: /spec/template/spec/priorityClassName}
- target: {kind: DaemonSet}
  patch: |-
    - {op: replace, path: /spec/template/spec/volumes/1, value: {name: data, emptyDir: {}}}
    - {op: replace, path: /spec/template/spec/containers/0/ports/0, value: {name: api, containerPort: %[4]d, hostPort: %[4]d}}
    - {op: replace, path: /spec/template/spec/containers/0/ports/1, value: {name: serf, containerPort: %[5]d, hostPort: %[5]d}}
    - op: replace
      path: /spec/template/spec/containers/0/ports/2
      value: {name: serf-udp, containerPort: %[5]d, hostPort: %[5]d, protocol: UDP}
    - {op: remove, path: /spec/template/spec/priorityClassName}
`, ConsulNamespace, Label, parts, ConsulPort, gossipPort),
}

// gossipPort is the client agents' port for gossip.
const gossipPort = 18301

// consulTimeout is for the pull of Consul's image, too.
const consulTimeout = "5m"

// installConsul applies examples/consul with the overlay, and waits until each node's agent has joined.
func (c *Cluster) installConsul(ctx context.Context) error {
	folder, err := c.writeOverlay()
	if err != nil {
		return err
	}
	if _, err := c.Kubectl(ctx, "apply", "-k", folder); err != nil {
		return err
	}
	for _, workload := range []string{"statefulset/consul-server", "daemonset/consul-client"} {
		if _, err := c.Kubectl(ctx, "-n", ConsulNamespace, "rollout", "status", workload, "--timeout="+consulTimeout); err != nil {
			return errors.Join(err, errors.New(c.describe(ctx, ConsulNamespace)))
		}
	}
	return nil
}

// writeOverlay writes the overlay into a folder of the repository, because it names examples by a relative path.
func (c *Cluster) writeOverlay() (folder string, err error) {
	folder = filepath.Join(c.dir(), "consul")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	for name, text := range overlay {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write overlay: %w", err)
		}
	}
	return folder, nil
}

// describe says what is wrong in a namespace, also after an interruption.
func (c *Cluster) describe(ctx context.Context, namespace string) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTimeout)
	defer cancel()
	pods, _ := c.Kubectl(ctx, "-n", namespace, "get", "pods", "-o", "wide")
	events, _ := c.Kubectl(ctx, "-n", namespace, "get", "events", "--field-selector=type!=Normal")
	return pods + events
}
