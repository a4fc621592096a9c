package injector

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestConsulErrors(t *testing.T) {
	authority := consultest.NewAuthority(t)
	key := string(authority.Issue(t, time.Now().Add(time.Hour), "x").Key)
	for name, c := range map[string]struct {
		tls  ConsulTLS
		acl  ConsulACL
		want []string
	}{
		"nothing":          {},
		"everything":       {ConsulTLS{CA: string(authority.PEM), ConfigMap: "a", Secret: "b", ServerName: "client.dc1.consul"}, ConsulACL{Mode: ACLLogin, AuthMethod: "m", Audience: "consul"}, nil},
		"a token":          {ConsulTLS{}, ConsulACL{Mode: ACLToken, Secret: "s"}, nil},
		"names":            {ConsulTLS{ConfigMap: "A", Secret: "b/c", ServerName: "a b"}, ConsulACL{Mode: ACLToken, Secret: "S"}, []string{"--consul-tls-configmap", "--consul-tls-secret", "--consul-tls-server-name", "--consul-acl-secret"}},
		"no mode":          {ConsulTLS{}, ConsulACL{Secret: "s", AuthMethod: "m", Audience: "a"}, []string{"--consul-acl-secret", "--consul-auth-method", "--consul-audience"}},
		"no method":        {ConsulTLS{}, ConsulACL{Mode: ACLLogin}, []string{"--consul-auth-method: Required"}},
		"no secret":        {ConsulTLS{}, ConsulACL{Mode: ACLToken}, []string{"--consul-acl-secret: Required"}},
		"another mode":     {ConsulTLS{}, ConsulACL{Mode: "vault"}, []string{"--consul-acl: Unsupported"}},
		"no certificates":  {ConsulTLS{CA: "hello"}, ConsulACL{}, []string{"--consul-tls-ca: Invalid", "PEM"}},
		"a key beside one": {ConsulTLS{CA: string(authority.PEM) + key}, ConsulACL{}, []string{"--consul-tls-ca: Invalid", "certificates only"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.Connect = Connect{}
			config.ConsulScheme, config.ConsulTLS, config.ConsulACL = "https", c.tls, c.acl
			if err := judged(t, config, c.want...); err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
				t.Error("the error shows a key")
			}
		})
	}
	config := testConfig()
	config.ConsulTLS.ServerName = "localhost"
	judged(t, config, "--consul-scheme: Invalid", "must be https")
}

// judged checks the error of New for a configuration: it has each of these parts, or is nil where there are none.
func judged(t *testing.T, config Config, want ...string) error {
	t.Helper()
	_, err := New(config)
	if (err == nil) != (len(want) == 0) {
		t.Fatalf("New: %v, want %q", err, want)
	}
	for _, part := range want {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error\n%v\nwithout %q", err, part)
		}
	}
	return err
}

// TestConsulWiring: the agentlet's arguments name the files of its volume, and no others.
func TestConsulWiring(t *testing.T) {
	for name, c := range map[string]struct {
		tls   ConsulTLS
		acl   ConsulACL
		files []string
	}{
		"nothing":      {},
		"inline":       {ConsulTLS{CA: string(consultest.NewAuthority(t).PEM)}, ConsulACL{}, nil},
		"a ConfigMap":  {ConsulTLS{ConfigMap: "ca"}, ConsulACL{}, []string{contract.ConsulCAFile}},
		"a Secret":     {ConsulTLS{Secret: "pair"}, ConsulACL{}, []string{contract.ConsulCertFile, contract.ConsulKeyFile, contract.ConsulCAFile}},
		"both":         {ConsulTLS{ConfigMap: "ca", Secret: "pair"}, ConsulACL{}, []string{contract.ConsulCAFile, contract.ConsulCertFile, contract.ConsulKeyFile}},
		"a token":      {ConsulTLS{}, ConsulACL{Mode: ACLToken, Secret: "s"}, []string{contract.ConsulTokenFile}},
		"a login":      {ConsulTLS{}, ConsulACL{Mode: ACLLogin, AuthMethod: "m"}, nil},
		"an own token": {ConsulTLS{}, ConsulACL{Mode: ACLLogin, AuthMethod: "m", Audience: "consul"}, []string{contract.ConsulBearerFile}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.Connect = Connect{}
			config.ConsulScheme, config.ConsulTLS, config.ConsulACL = "https", c.tls, c.acl
			i, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			raw := readPod(t, filepath.Join("testdata", "two-services"))
			injected := whole(t, apply(t, raw, i.Decide(Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce})))
			said := strings.Join(registration.Agentlet(injected).Args, " ")
			volume := injected.Spec.Volumes[len(injected.Spec.Volumes)-1]
			paths := projected(volume.Projected)
			for _, file := range c.files {
				if !strings.Contains(said, "="+mounted(file)) || !paths[file] {
					t.Errorf("%s: args %s, volume %v", file, said, paths)
				}
			}
			if len(paths) != 3+len(c.files) {
				t.Errorf("the volume has %v, want the three of Kubernetes and %v", paths, c.files)
			}
			ca := ""
			for _, env := range registration.Agentlet(injected).Env {
				if env.Name == contract.EnvConsulCA {
					ca = env.Value
				}
			}
			if ca != c.tls.CA {
				t.Errorf("environment has the CA %q", ca)
			}
			if c.acl.Mode == ACLLogin && !strings.Contains(said, "--consul-auth-method=m --consul-bearer-token-file=") {
				t.Errorf("args %s", said)
			}
		})
	}
}

// projected returns the paths of a volume, each of which may be there only once.
func projected(volume *corev1.ProjectedVolumeSource) map[string]bool {
	paths := map[string]bool{}
	for _, source := range volume.Sources {
		var items []corev1.KeyToPath
		switch {
		case source.Secret != nil:
			items = source.Secret.Items
		case source.ConfigMap != nil:
			items = source.ConfigMap.Items
		case source.ServiceAccountToken != nil:
			paths[source.ServiceAccountToken.Path] = true
		case source.DownwardAPI != nil:
			paths[source.DownwardAPI.Items[0].Path] = true
		}
		for _, item := range items {
			paths[item.Path] = true
		}
	}
	return paths
}
