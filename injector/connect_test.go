package injector

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestConnectConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		connect Connect
		want    []string
	}{
		"nothing":                 {Connect{}, nil},
		"built in":                {Connect{Image: "consul:1", Proxy: BuiltIn}, nil},
		"no port":                 {Connect{Image: "envoy:1"}, []string{"--connect-grpc-port"}},
		"a method without logins": {Connect{AuthMethod: "m"}, []string{"--connect-auth-method"}},
		"all of it":               {Connect{Proxy: "nginx", ImagePullPolicy: "Sometimes", Secret: "A", CPURequest: "x", MemoryRequest: "-1", CPULimit: "y", MemoryLimit: "z"}, []string{"--connect-proxy", "--connect-image-pull-policy", "--connect-secret", "--connect-cpu-request", "--connect-memory-request", "--connect-cpu-limit", "--connect-memory-limit"}},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.Connect = c.connect
			judged(t, config, c.want...)
		})
	}
	config := testConfig()
	config.ConsulScheme, config.ConsulTLS.CA = "https", string(consultest.NewAuthority(t).PEM)
	judged(t, config, "set --consul-tls-configmap instead")
}

// TestProxyThatCannotBeAdded decides on a pod that requests a mesh proxy, with containers of earlier injections.
func TestProxyThatCannotBeAdded(t *testing.T) {
	lending := func(c *Config) {
		c.Connect.AuthMethod, c.ConsulACL = "proxies", ConsulACL{Mode: ACLLogin, AuthMethod: "agentlet"}
	}
	without := func(name string) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.Spec.InitContainers = slices.DeleteFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
		}
	}
	raw := readPod(t, filepath.Join("testdata", "connect"))
	for name, c := range map[string]struct {
		before, now func(*Config)
		left        func(*corev1.Pod)
		want        Outcome
		err         string
	}{
		"no image, nothing there": {nil, func(c *Config) { c.Connect = Connect{} }, nil, Denied, "--connect-image is empty"},
		"no image, the proxy alone": {
			func(*Config) {}, func(c *Config) { c.Connect = Connect{} }, without(contract.ContainerName), Denied, "--connect-image is empty",
		},
		"no image, both":     {func(*Config) {}, func(c *Config) { c.Connect = Connect{} }, func(*corev1.Pod) {}, Skipped, ""},
		"the agentlet alone": {func(*Config) {}, func(*Config) {}, without(contract.ProxyContainerName), Injected, ""},
		"an agentlet among the containers": {func(*Config) {}, func(*Config) {}, func(pod *corev1.Pod) {
			without(contract.ProxyContainerName)(pod)
			pod.Spec.Containers = append(pod.Spec.Containers, pod.Spec.InitContainers[0])
			pod.Spec.Containers[len(pod.Spec.Containers)-1].RestartPolicy = nil
			pod.Spec.InitContainers = pod.Spec.InitContainers[1:]
		}, Denied, "has to start after it"},
		"an agentlet that lends":    {lending, lending, without(contract.ProxyContainerName), Injected, ""},
		"an agentlet without login": {func(*Config) {}, lending, without(contract.ProxyContainerName), Denied, "would make no token"},
	} {
		t.Run(name, func(t *testing.T) {
			decide := func(change func(*Config), pod *corev1.Pod) Decision {
				config := testConfig()
				change(&config)
				i, err := New(config)
				if err != nil {
					t.Fatal(err)
				}
				return i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
			}
			pod := decode(t, raw)
			if c.before != nil {
				pod = decode(t, apply(t, raw, decide(c.before, pod)))
				c.left(pod)
			}
			d := decide(c.now, pod)
			if d.Outcome != c.want {
				t.Errorf("%s %s %v, want %s", d.Outcome, d.Reason, d.Errors, c.want)
			}
			if c.err != "" && (d.Reason != ReasonInvalidAnnotations || len(d.Errors) != 1 ||
				!strings.Contains(d.Errors[0].Error(), "connect-inject]: Forbidden") || !strings.Contains(d.Errors[0].Error(), c.err)) {
				t.Errorf("%s %v, want %q", d.Reason, d.Errors, c.err)
			}
		})
	}
}

// TestProxyWiring: the proxy's environment names the files of its volume, and no others.
func TestProxyWiring(t *testing.T) {
	certificates := []string{contract.ConsulCertFile, contract.ConsulKeyFile}
	for name, c := range map[string]struct {
		change           func(*Config)
		files            []string
		env              map[string]string
		volumes, command string
	}{
		"Envoy": {func(*Config) {}, nil, map[string]string{
			"CONSUL_HTTP_ADDR": "http://$(HOST_IP):8500", "CONSUL_GRPC_ADDR": "http://$(HOST_IP):8502",
		}, "agentlet-proxy-tmp", "consul connect envoy"},
		"built in": {
			func(c *Config) { c.Connect.Proxy, c.Connect.Args = BuiltIn, []string{"-log-level=debug"} }, nil,
			map[string]string{"CONSUL_HTTP_ADDR": "http://$(HOST_IP):8500"},
			"", "consul connect proxy -log-level=debug",
		},
		"TLS": {
			func(c *Config) { c.ConsulScheme, c.ConsulTLS.ConfigMap, c.ConsulTLS.Secret = "https", "ca", "pair" },
			append(certificates, contract.ConsulCAFile),
			map[string]string{
				"CONSUL_HTTP_ADDR": "https://$(HOST_IP):8500", "CONSUL_GRPC_ADDR": "https://$(HOST_IP):8502", "CONSUL_TLS_SERVER_NAME": "localhost",
			},
			"agentlet-proxy-tmp agentlet-proxy", "consul connect envoy",
		},
		"a login": {
			func(c *Config) {
				c.Connect.Proxy, c.Connect.AuthMethod, c.ConsulACL = BuiltIn, "proxies", ConsulACL{Mode: ACLLogin, AuthMethod: "agentlet"}
			},
			nil,
			map[string]string{"CONSUL_HTTP_TOKEN_FILE": contract.ProxyToken},
			"agentlet-proxy-token", "consul connect proxy",
		},
		"a token": {
			func(c *Config) {
				c.Connect.Proxy, c.Connect.Secret, c.ConsulACL = BuiltIn, "proxy", ConsulACL{Mode: ACLToken, Secret: "agentlet"}
			},
			[]string{contract.ConsulTokenFile},
			nil, "agentlet-proxy", "consul connect proxy",
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			c.change(&config)
			i, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			raw := readPod(t, filepath.Join("testdata", "connect"))
			injected := whole(t, apply(t, raw, i.Decide(Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce})))
			proxy := injected.Spec.InitContainers[1]
			if got := strings.Join(slices.Concat(proxy.Command, proxy.Args), " "); got != c.command {
				t.Errorf("runs %q, want %q", got, c.command)
			}
			var volumes []string
			paths := map[string]bool{}
			for _, mount := range proxy.VolumeMounts {
				volumes = append(volumes, mount.Name)
				at := slices.IndexFunc(injected.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name })
				if volume := injected.Spec.Volumes[at]; volume.Projected != nil {
					paths = projected(volume.Projected)
				}
				if mount.Name == contract.VolumeName {
					t.Error("the proxy mounts the agentlet's identity")
				}
			}
			if got := strings.Join(volumes, " "); got != c.volumes {
				t.Errorf("mounts %q, want %q", got, c.volumes)
			}
			named := map[string]bool{}
			env := map[string]string{}
			for _, e := range proxy.Env {
				env[e.Name] = e.Value
				if file, ok := strings.CutPrefix(e.Value, contract.ProxyPath+"/"); ok {
					named[file] = true
				}
			}
			for key, want := range c.env {
				if env[key] != want {
					t.Errorf("%s=%q, want %q", key, env[key], want)
				}
			}
			want := map[string]bool{}
			for _, file := range c.files {
				want[file] = true
			}
			if !maps.Equal(named, want) || !maps.Equal(paths, want) {
				t.Errorf("the environment names %v, the volume has %v, want %v", named, paths, want)
			}
			agentlet := injected.Spec.InitContainers[0]
			lends := slices.ContainsFunc(agentlet.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == contract.ProxyTokenName && !m.ReadOnly })
			if told := slices.Contains(agentlet.Args, "--proxy-token-file="+contract.ProxyToken); told != lends || lends != (config.Connect.AuthMethod != "") {
				t.Errorf("the agentlet has a place for the proxy's token: %t, and is told of it: %t", lends, told)
			}
			for _, source := range injected.Spec.Volumes {
				if source.Name == contract.ProxyVolumeName && config.Connect.Secret != "" && source.Projected.Sources[0].Secret.Name != "proxy" {
					t.Error("the token is not the proxy's own")
				}
			}
		})
	}
}
