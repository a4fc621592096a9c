package registration

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// meshed is a pod before whose containers somebody has put a mesh's proxy since its agentlet, with this record, was added.
func meshed(short annotations, recorded string) *corev1.Pod {
	pod := newPod(short)
	pod.Spec.Containers = append([]corev1.Container{{Name: "mesh", Ports: []corev1.ContainerPort{{ContainerPort: 4143}}}}, pod.Spec.Containers...)
	if recorded != "" {
		pod.Name = "web-0"
		pod.Spec.InitContainers[0].Env = []corev1.EnvVar{
			{Name: contract.EnvInjectedFor, Value: "web-0"}, {Name: contract.EnvDefaultPort, Value: recorded},
		}
	}
	return pod
}

func TestDefaultPortIsThatOfAdmission(t *testing.T) {
	ports := func(reg *Registration) (ports []int) {
		for i := range reg.Services {
			ports = append(ports, reg.Services[i].Port)
		}
		return ports
	}
	for name, c := range map[string]struct {
		pod       *corev1.Pod
		ports     []int
		defaulted []string
	}{
		"before the mesh":      {newPod(annotations{"service-names": "web"}), []int{8080}, []string{"web"}},
		"after it":             {meshed(annotations{"service-names": "web"}, "8080"), []int{8080}, []string{"web"}},
		"of two services":      {meshed(annotations{"service-names": "web,admin", "service-port.admin": "9090"}, "8080"), []int{8080, 9090}, []string{"web"}},
		"said":                 {meshed(annotations{"service-names": "web", "service-port": "metrics"}, "8080"), []int{9090}, nil},
		"structured":           {meshed(annotations{"services": "[{name: web}, {name: admin, port: 9090}]"}, "8080"), []int{8080, 9090}, []string{"web"}},
		"of an older build":    {meshed(annotations{"service-names": "web"}, ""), []int{4143}, []string{"web"}},
		"a record of nonsense": {meshed(annotations{"service-names": "web"}, "http"), []int{4143}, []string{"web"}},
	} {
		t.Run(name, func(t *testing.T) {
			reg, _ := mustParse(t, c.pod, nil)
			if got := ports(reg); !slices.Equal(got, c.ports) || !slices.Equal(reg.DefaultPort, c.defaulted) {
				t.Errorf("ports %v, by default of %v, want %v, %v", got, reg.DefaultPort, c.ports, c.defaulted)
			}
		})
	}
	// A pod that declared none has none by default either when somebody declares one later.
	wantErrors(t, meshed(annotations{"service-names": "web"}, contract.NoDefaultPort), "no container declares a port")
}

// TestDefaultPortOfAChangedPod has pods that came out of an injection with a record, and what they declare now: containers, with their ports.
func TestDefaultPortOfAChangedPod(t *testing.T) {
	type containers = [][]int32
	const none, another = contract.NoDefaultPort, "80 is registered now, the first declared one of a container; it was "
	for name, c := range map[string]struct {
		recorded string
		admitted bool
		declared containers
		want     string
		warning  string
	}{
		"a manifest as it was":                     {"8080", false, containers{{8080, 9090}}, "8080", ""},
		"a manifest, a mesh first":                 {"8080", false, containers{{4143}, {8080}}, "8080", ""},
		"a manifest, another port":                 {"8080", false, containers{{80}}, "80", another + "8080"},
		"a manifest, another port first":           {"8080", false, containers{{80, 8080}}, "80", another + "8080"},
		"a manifest, another port, a mesh first":   {"8080", false, containers{{4143}, {80, 8080}}, "80", another + "8080"},
		"a manifest, its port in two containers":   {"8080", false, containers{{80, 8080}, {8080, 80}}, "8080", ""},
		"a manifest, another port in two":          {"8080", false, containers{{7, 80}, {80, 8080}}, "80", "80 is registered now"},
		"a manifest, no port":                      {"8080", false, containers{{}}, "8080", ""},
		"a manifest, a first port":                 {none, false, containers{{80}}, "80", another + "none"},
		"a manifest, none yet":                     {none, false, containers{{}}, none, ""},
		"admitted as it was":                       {"8080", true, containers{{8080}}, "8080", ""},
		"admitted, a mesh first":                   {"8080", true, containers{{4143}, {8080}}, "8080", ""},
		"admitted, somebody's port first":          {"8080", true, containers{{4143, 8080}}, "8080", ""},
		"admitted, no port":                        {"8080", true, containers{{}}, "8080", ""},
		"admitted without a port, a mesh first":    {none, true, containers{{4143}, {}}, none, ""},
		"admitted, exported, and with another one": {"8080", true, containers{{80}}, "80", another + "8080"},
		"of an older build":                        {"", false, containers{{80}}, "80", ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := meshed(annotations{"service-names": "web"}, c.recorded)
			if !c.admitted && c.recorded != "" {
				pod.Spec.InitContainers[0].Env = pod.Spec.InitContainers[0].Env[1:]
			}
			pod.Spec.InitContainers, pod.Spec.Containers = pod.Spec.InitContainers[:1], nil
			for i, declared := range c.declared {
				container := corev1.Container{Name: "c" + strconv.Itoa(i)}
				for _, port := range declared {
					container.Ports = append(container.Ports, corev1.ContainerPort{ContainerPort: port})
				}
				pod.Spec.Containers = append(pod.Spec.Containers, container)
			}
			if got := DefaultPort(pod); got != c.want || RecordedPort(pod) != c.recorded {
				t.Errorf("%s, want %s; recorded is %q", got, c.want, RecordedPort(pod))
			}
			_, warnings, _ := Lint(pod, nil, nil)
			env := pod.Spec.InitContainers[0].Env
			if len(env) > 0 {
				env[len(env)-1].Value = c.want
			}
			if got := DefaultPort(pod); got != c.want {
				t.Errorf("written down anew it is %s", got)
			}
			warnings = slices.DeleteFunc(warnings, func(w Warning) bool { return !strings.Contains(w.Message, "registered now") })
			if c.warning == "" {
				wantWarnings(t, warnings)
			} else {
				wantWarnings(t, warnings, c.warning)
			}
		})
	}
}

func TestWarningOfADefaultPort(t *testing.T) {
	proxied := meshed(annotations{"service-names": "web"}, "")
	proxied.Spec.Containers[0].Name = IstioProxy
	proxied.Spec.InitContainers[0].Env = []corev1.EnvVar{{Name: contract.EnvDefaultPort, Value: "8080"}}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want []string
	}{
		"one container":           {newPod(annotations{"service-names": "web"}), nil},
		"two, and a port is said": {meshed(annotations{"service-names": "web", "service-port": "8080"}, ""), nil},
		"two, the mesh first":     {meshed(annotations{"service-names": "web,more"}, ""), []string{"no port is given for web, more: the first declared one is registered, 4143 of container mesh; app declares ports, too"}},
		"two, the mesh later":     {meshed(annotations{"service-names": "web"}, "8080"), []string{"8080 of container app; mesh declares ports, too"}},
		"beside a known proxy":    {proxied, nil},
		"structured":              {meshed(annotations{"services": "[{name: web}]"}, ""), []string{"no port is given for web"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings := mustParse(t, c.pod, nil)
			wantWarnings(t, warnings, c.want...)
			for _, w := range warnings {
				if !strings.HasPrefix(w.Field, "metadata.annotations[agentlet.dev/service") || strings.Contains(w.Field, "port") {
					t.Errorf("it is about %s, which the pod doesn't have", w.Field)
				}
			}
		})
	}
}

func TestDefaultPort(t *testing.T) {
	pod := newPod(nil)
	if got := DefaultPort(pod); got != "8080" {
		t.Errorf("%s is written down", got)
	}
	pod.Spec.Containers[0].Ports, pod.Spec.InitContainers[2].Ports = nil, nil
	if got := DefaultPort(pod); got != contract.NoDefaultPort {
		t.Errorf("%s is written down of a pod without ports", got)
	}
}

// TestAMeshsPortIsNoDefault: the ports of a mesh's proxy are those of a service only where the proxy is the application.
func TestAMeshsPortIsNoDefault(t *testing.T) {
	container := func(name string, ports ...int32) corev1.Container {
		c := corev1.Container{Name: name}
		for _, port := range ports {
			c.Ports = append(c.Ports, corev1.ContainerPort{ContainerPort: port})
		}
		return c
	}
	recorded := container(contract.ContainerName)
	recorded.Env = []corev1.EnvVar{{Name: contract.EnvDefaultPort, Value: "15090"}}
	for name, test := range map[string]struct {
		containers []corev1.Container
		want       string
	}{
		"before the application":             {[]corev1.Container{container(IstioProxy, 15090), container("web", 8080)}, "8080"},
		"beside one without a port":          {[]corev1.Container{container("web"), container(LinkerdProxy, 4143)}, contract.NoDefaultPort},
		"a gateway":                          {[]corev1.Container{container(IstioProxy, 8443)}, "8443"},
		"a gateway with an agentlet":         {[]corev1.Container{container(IstioProxy, 8443), container(contract.ContainerName)}, "8443"},
		"registered by an older agentlet":    {[]corev1.Container{container("web"), container(IstioProxy, 15090), container(contract.ContainerName)}, "15090"},
		"registered by one that recorded it": {[]corev1.Container{container("web"), container(IstioProxy, 15090), recorded}, "15090"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := DefaultPort(&corev1.Pod{Spec: corev1.PodSpec{Containers: test.containers}}); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
