package scenarios_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestConsulHashiCorpAuthorityRotated replaces the authority that HashiCorp's chart has made, by docs/consul/hashicorp-ca.sh and in
// the page's order, under load.
func TestConsulHashiCorpAuthorityRotated(t *testing.T) {
	const rate, replicas = 200, 2
	s := scenario.New(t, scenario.Long())
	var r rotation
	var f followed
	gates := map[string]metav1.Time{}
	s.Given("agents on the nodes' network, replicas that trust their authority by a ConfigMap, and a new authority", func() {
		stopAgents(s)
		h := onHashiCorps(s, hashicorpSettings{OnNode: true})
		h.runAgents()
		r = rotation{hashicorp: h, older: filepath.Join(h.folder, "consul-agent-ca.pem")}
		folder := s.TempDir()
		h.newAuthority(folder)
		r.newer, r.newerKey = filepath.Join(folder, "consul-agent-ca.pem"), filepath.Join(folder, "consul-agent-ca-key.pem")
		both := filepath.Join(folder, "both.pem")
		s.Must(os.WriteFile(both, r.joined(r.older, r.newer), 0o600))
		h.trust(both)
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "configmap", "consul-ca", "--from-file=ca.crt="+r.older)
		s.Must(err)
		guarded{S: s}.install("consul.tls.configMapName=consul-ca", "consul.port="+consulPort)
		f = follow(s, replicas, spread)
		for _, pod := range s.Pods(s.Ctx) {
			gates[pod.Name] = gateOf(s, pod.Name).LastTransitionTime
		}
	})
	gaps := followStatus(s)
	s.When("the authority is rotated under load", func() {
		f.under(rate, func() {
			began := time.Now()
			r.podsTrust(r.older, r.newer)
			r.step("", r.older, r.newer)
			r.step(r.newerKey, r.newer, r.older)
			r.step("", r.newer)
			r.podsTrust(r.newer)
			s.AwaitCatalog(s.Service(), replicas)
			s.Logf("the rotation took %s", time.Since(began))
		})
	})
	s.Then("no request failed, the gates have not moved, and the service was in the catalog all the time", func() {
		requests, _ := f.client.Counts()
		s.Logf("%d requests", requests)
		if err := f.client.Check(); err != nil {
			s.Errorf("%v", err)
		}
		if missing := gaps(); len(missing) > 0 {
			s.Errorf("the service was missing for %v", missing)
		}
		for name, at := range gates {
			if gate := gateOf(s, name); gate.Status != corev1.ConditionTrue || !gate.LastTransitionTime.Equal(&at) {
				s.Errorf("the gate of %s moved: %+v", name, gate)
			}
		}
	})
	s.Then("servers and agents serve by the new authority, and a new pod that trusts it alone is Ready", func() {
		for _, host := range []string{r.settings.Server, s.Cluster.Nodes[0].IP, s.Cluster.Nodes[1].IP} {
			if err := r.serves(host, r.newer); err != nil {
				s.Errorf("%s, by the new authority: %v", host, err)
			}
			if r.serves(host, r.older) == nil {
				s.Errorf("%s still serves by the old authority", host)
			}
		}
		_, err := s.CreatePod("late", pinned(s, s.Cluster.Nodes[0]))
		s.Must(err)
		s.AwaitReady("late")
	})
}

// rotation of a Consul's authority. The names are of files.
type rotation struct {
	hashicorp
	older, newer, newerKey string
}

// joined are certificates in one file.
func (r rotation) joined(files ...string) []byte {
	r.Helper()
	var all [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		r.Must(err)
		all = append(all, text)
	}
	return slices.Concat(all...)
}

// podsTrust has the pods trust authorities, and waits until their nodes have brought them into the pods.
func (r rotation) podsTrust(files ...string) {
	r.Helper()
	want := r.joined(files...)
	config := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "consul-ca"}, Data: map[string]string{"ca.crt": string(want)}}
	_, err := r.Kube.CoreV1().ConfigMaps(r.Namespace).Update(r.Ctx, config, metav1.UpdateOptions{})
	r.Must(err)
	for _, pod := range r.Pods(r.Ctx) {
		volumes := filepath.Join(r.Cluster.Dir(), pod.Spec.NodeName, "kubelet", "pods", string(pod.UID), "volumes", "*", "*", contract.ConsulCAFile)
		r.Within(3*time.Minute, "the authorities in "+pod.Name, func(context.Context) (bool, error) {
			found, err := filepath.Glob(volumes)
			if err != nil || len(found) != 1 {
				return false, fmt.Errorf("%s: %v, %w", volumes, found, err)
			}
			text, err := os.ReadFile(found[0])
			return bytes.Equal(text, want), err
		})
	}
}

// step runs the script with the files of authorities, the first of which signs with the key, or with the former key where it is
// empty. Then it restarts the server and the agents, as the page says.
func (r rotation) step(key string, files ...string) {
	r.Helper()
	runDocs(r.S, r.TempDir(), "hashicorp-ca.sh", []string{"CA=" + strings.Join(files, " "), "KEY=" + key}, "-n consul", "-n "+r.namespace)
	want := r.joined(files...)
	r.Within(3*time.Minute, "the authorities in the server's pod", func(context.Context) (bool, error) {
		text, err := r.Kubectl(r.Ctx, "-n", r.namespace, "exec", "consul-server-0", "--", "cat", "/consul/ca/tls.crt")
		return text == string(want), err
	})
	restarts := r.server().Status.ContainerStatuses[0].RestartCount
	_, err := r.Kubectl(r.Ctx, "-n", r.namespace, "exec", "consul-server-0", "--", "sh", "-c", "kill 1")
	r.Must(err)
	r.Within(2*time.Minute, "the server to be back", func(context.Context) (bool, error) {
		status := r.server().Status.ContainerStatuses[0]
		return status.RestartCount > restarts && status.Ready, nil
	})
	r.rollout("restart")
	r.rollout("status", "--timeout=4m")
}

// serves connects to the server or an agent, and returns why its certificate isn't of an authority.
func (r rotation) serves(host, authority string) error {
	r.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(r.joined(authority))
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}}
	connection, err := dialer.DialContext(r.Ctx, "tcp", net.JoinHostPort(host, consulPort))
	if err != nil {
		return err
	}
	return connection.Close()
}
