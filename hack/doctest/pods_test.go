package doctest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/workload"
	"github.com/agentlet/agentlet/internal/cli/manifests"
)

// judge makes the injector decide about a manifest, as kubectl agentlet does.
func judge(t *testing.T, place string, text []byte) (pods []manifests.Result, diagnostics []manifests.Diagnostic) {
	t.Helper()
	decider, err := injector.New(injector.Config{
		Image: "registry.example/agentlet:0.1.0", ConsulPort: 8500, ConsulScheme: "http", AllowedServices: "*",
		Connect: injector.Connect{Image: "registry.example/envoy:1", GRPCPort: 8502},
	})
	if err != nil {
		t.Fatal(err)
	}
	file, diagnostics := manifests.Parse(place, text)
	pods = file.Judge(decider, "shop", manifests.Namespaces([]*manifests.File{file}))
	return pods, append(diagnostics, file.Warnings(nil)...)
}

// deployment returns a Deployment around a part of a template: its metadata, its spec, or annotations only. The rest is that of
// an ordinary pod.
func deployment(t *testing.T, block Block) []byte {
	t.Helper()
	var template corev1.PodTemplateSpec
	text := []byte(block.Text)
	if strings.HasPrefix(block.Text, contract.Prefix) {
		if err := yaml.UnmarshalStrict(text, &template.Annotations); err != nil {
			t.Fatal(err)
		}
	} else if err := yaml.UnmarshalStrict(text, &template); err != nil {
		t.Fatal(err)
	}
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	if template.Annotations[contract.ServiceNames] == "" && template.Annotations[contract.Services] == "" {
		template.Annotations[contract.ServiceNames] = "web"
	}
	if len(template.Spec.Containers) == 0 {
		template.Spec.Containers = []corev1.Container{{
			Name: "web", Image: "registry.example/web:1",
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "grpc", ContainerPort: 9090}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")},
			}},
		}}
	}
	labels := map[string]string{"app": "web"}
	template.Labels = labels
	whole, err := yaml.Marshal(appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template},
	})
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// accepted requires that the block's pod gets an agentlet, without a warning.
func accepted(t *testing.T, block Block) {
	pods, diagnostics := judge(t, block.Place(), deployment(t, block))
	contented(t, pods, diagnostics)
	if len(pods) != 1 || pods[0].Outcome != injector.Injected {
		t.Errorf("%d pods, want one that is injected", len(pods))
	}
}

func contented(t *testing.T, pods []manifests.Result, diagnostics []manifests.Diagnostic) {
	t.Helper()
	notes := diagnostics // also of a file without a pod
	for _, pod := range pods {
		notes = slices.Concat(notes, pod.Errors, pod.Warnings)
	}
	for _, note := range notes {
		t.Error(note)
	}
}

// manifest requires that the block consists of whole objects without unknown fields. Pods in it that request an agentlet get one,
// without a warning.
func manifest(t *testing.T, block Block) {
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	found := 0
	for document := range bytes.SplitSeq([]byte(block.Text), []byte("\n---\n")) {
		object, _, err := decoder.Decode(document, nil, nil)
		if runtime.IsMissingKind(err) && len(bytes.TrimSpace(document)) == 0 {
			continue
		}
		if err != nil {
			t.Errorf("document %d: %v", found, err)
		}
		_, isObject := object.(metav1.Object)
		if err == nil && !isObject {
			t.Errorf("document %d: %T is no object", found, object)
		}
		found++
	}
	if found == 0 {
		t.Error("there is no object here")
	}
	pods, diagnostics := judge(t, block.Place(), []byte(block.Text))
	contented(t, pods, diagnostics)
	for i := range pods {
		asks := strings.Contains(fmt.Sprint(pods[i].Pod.Pod.Annotations), contract.Prefix)
		if asks && pods[i].Outcome != injector.Injected {
			t.Errorf("%s is not injected: %s", pods[i].String(), pods[i].Reason)
		}
	}
}

// TestExamples tests the manifests of examples like those of the pages.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "examples/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		if filepath.Base(file) == kindExample {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			manifest(t, Block{Page: "examples/" + filepath.Base(file), Line: 1, Text: string(text)})
		})
	}
}

// kindExample is the example that is not for Kubernetes.
const kindExample = "kind.yaml"

// TestKindExample checks the configuration of a kind cluster, which needs a worker for each server of examples/consul.
func TestKindExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "examples", kindExample))
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		metav1.TypeMeta `json:",inline"`

		Nodes []struct{ Role string }
	}
	if err := yaml.UnmarshalStrict(text, &config); err != nil {
		t.Fatal(err)
	}
	if config.Kind != "Cluster" || config.APIVersion != "kind.x-k8s.io/v1alpha4" {
		t.Errorf("it is a %s of %s", config.Kind, config.APIVersion)
	}
	count := map[string]int{}
	for _, node := range config.Nodes {
		count[node.Role]++
	}
	if !maps.Equal(count, map[string]int{"control-plane": 1, "worker": 3}) {
		t.Errorf("its nodes are %v", count)
	}
}

// TestConsulExamples renders each variant of examples/consul with kubectl, tests the objects like the other examples, and
// validates the agents' configuration with Consul.
func TestConsulExamples(t *testing.T) {
	kubectl, consul := program(t, "AGENTLET_TEST_KUBECTL"), program(t, "AGENTLET_TEST_CONSUL")
	variants, err := filepath.Glob(filepath.Join(root, "examples/consul/*/kustomization.yaml"))
	if err != nil || len(variants) < 5 {
		t.Fatalf("%d variants, %v", len(variants), err)
	}
	for _, variant := range variants {
		name := filepath.Base(filepath.Dir(variant))
		kinds := 2 // servers and clients
		if name == "clients" {
			kinds = 1
		}
		t.Run(name, func(t *testing.T) {
			out, err := output(t, root, nil, kubectl, "kustomize", "examples/consul/"+name)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			manifest(t, Block{Page: "examples/consul/" + name, Line: 1, Text: out})
			if image := "image: hashicorp/consul:" + consulVersion(t) + "\n"; strings.Count(out, image) != kinds {
				t.Errorf("want %d times %s", kinds, image)
			}
			shared, agents := agentConfigurations(t, out)
			if len(agents) != kinds {
				t.Fatalf("the configurations of %d kinds of agents, want %d", len(agents), kinds)
			}
			shared["arguments.json"] = `{"bind_addr": "192.0.2.1"}` // the pods set this with -bind
			for agent, text := range agents {
				files := maps.Clone(shared)
				files[agent] = text
				validated(t, consul, files)
			}
		})
	}
}

// validated has Consul validate an agent's files of configuration.
func validated(t *testing.T, consul string, files map[string]string) {
	t.Helper()
	folder := t.TempDir()
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := output(t, root, nil, consul, "validate", folder); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestConsulAgentsOfTheChart renders the chart's Consul agents, and validates their configuration with Consul, with files as they are in
// Secrets.
func TestConsulAgentsOfTheChart(t *testing.T) {
	helm, consul := program(t, "AGENTLET_TEST_HELM"), program(t, "AGENTLET_TEST_CONSUL")
	for name, values := range map[string][]string{
		"open": nil,
		"with a certificate from the servers": {
			"consul.scheme=https", "consul.port=8501", "consul.tls.configMapName=ca", "connect.image=envoy", "connect.grpcPort=8503",
			"consulAgents.tls.enabled=true", "consulAgents.tls.caSecretName=ca", "consulAgents.tls.autoEncrypt=true",
		},
		"with a certificate of a Secret, and everything else": {
			"consul.scheme=https", "consul.port=8500", "consul.tls.configMapName=ca", "consul.tls.serverName=agent.example",
			"consulAgents.tls.enabled=true", "consulAgents.tls.caSecretName=ca", "consulAgents.tls.certSecretName=agents",
			"consulAgents.gossipKey.secretName=gossip", "consulAgents.acl.tokenSecretName=token", "consulAgents.hostNetwork=false",
			"consulAgents.extraConfig.log_level=WARN", "consulAgents.extraConfig.limits.rpc_rate=100",
		},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{
				"template", "agentlet", "charts/agentlet", "--show-only", "templates/consulagents.yaml", "--set", anImage, "--set",
				"consulAgents.enabled=true,consulAgents.image.repository=consul,consulAgents.image.tag=v1,consulAgents.retryJoin={192.0.2.1,[fd00::1]}",
			}
			for _, value := range values {
				args = append(args, "--set", value)
			}
			out, err := output(t, root, nil, helm, args...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			files, agents := agentConfigurations(t, out)
			if len(files) != 1 || len(agents) != 0 {
				t.Fatalf("the files %v", files)
			}
			files["arguments.json"] = `{"bind_addr": "192.0.2.1"}` // the pods set this with -bind
			files["gossip.json"] = `{"encrypt": "` + base64.StdEncoding.EncodeToString(make([]byte, 32)) + `"}`
			files["tokens.json"] = `{"acl": {"tokens": {"agent": "00000000-0000-0000-0000-000000000000"}}}`
			validated(t, consul, files)
		})
	}
}

// consulVersion returns the version of the Consul that all tests use.
func consulVersion(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "hack/tools/consul/go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`github\.com/hashicorp/consul v(\S+)`).FindSubmatch(text)
	if match == nil {
		t.Fatal("the tools' go.mod names no Consul")
	}
	return string(match[1])
}

// agentConfigurations returns the configuration files in ConfigMaps: those of one kind of agents, and those that all share.
func agentConfigurations(t *testing.T, manifests string) (shared, agents map[string]string) {
	t.Helper()
	shared, agents = map[string]string{}, map[string]string{}
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var config corev1.ConfigMap
		if err := yaml.Unmarshal([]byte(document), &config); err != nil {
			t.Fatal(err)
		}
		for name, text := range config.Data {
			if config.Kind == "ConfigMap" && (name == "server.hcl" || name == "client.hcl") {
				agents[name] = text
			} else if config.Kind == "ConfigMap" {
				shared[name] = text
			}
		}
	}
	return shared, agents
}

// TestErrorsAreToldAsThePagesSay compares the errors or warnings of each such block with the next block.
func TestErrorsAreToldAsThePagesSay(t *testing.T) {
	tried := 0
	for _, page := range all(t) {
		for i, block := range page.Blocks {
			follows := map[string]string{"yaml pod denied": "text errors", "yaml pod warned": "text warnings"}[block.Kind()]
			said := strings.HasPrefix(block.Kind(), "text ")
			switch {
			case said && (i == 0 || !strings.HasPrefix(page.Blocks[i-1].Kind(), "yaml pod ")):
				t.Errorf("%s: no block before it is tagged yaml pod denied or yaml pod warned", block.Place())
			case follows == "":
			case i+1 == len(page.Blocks) || page.Blocks[i+1].Kind() != follows:
				t.Errorf("%s: the next block is not tagged %s", block.Place(), follows)
			default:
				tried++
				if want, got := page.Blocks[i+1].Text, told(t, block); got != want {
					t.Errorf("%s: the webhook says\n%s", page.Blocks[i+1].Place(), got)
				}
			}
		}
	}
	if tried < 2 {
		t.Errorf("%d blocks were tried", tried)
	}
}

// told returns what kubectl shows of the webhook's response to a Deployment with that template.
func told(t *testing.T, block Block) string {
	t.Helper()
	pods, diagnostics := judge(t, block.Place(), deployment(t, block))
	if len(pods) != 1 || len(diagnostics) > 0 {
		t.Fatalf("%d pods, errors %v", len(pods), diagnostics)
	}
	path, _ := workload.Path("apps/v1", "Deployment")
	const denied = `admission webhook "workloads.agentlet.dev" denied the request: `
	lines := []string{}
	switch errs := pods[0].Decision.Errors; len(errs) {
	case 0:
	case 1:
		lines = append(lines, denied+workload.AtPath(path, errs[0]).Error())
	default:
		lines = append(lines, fmt.Sprintf("%s%d errors:", denied, len(errs)))
		for _, err := range errs {
			lines = append(lines, "- "+workload.AtPath(path, err).Error())
		}
	}
	for _, warning := range pods[0].Decision.Warnings {
		lines = append(lines, "Warning: "+warning.Message)
	}
	return strings.Join(lines, "\n") + "\n"
}
