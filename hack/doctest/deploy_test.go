package doctest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// hashicorpValues are names of values of HashiCorp's Helm chart, version 2.0.3, one a line: those of its clients, and of what is global.
const hashicorpValues = "testdata/consul-k8s-2.0.3.txt"

// hashicorp requires that HashiCorp's chart has each value of the block.
func hashicorp(t *testing.T, block Block) {
	known, err := os.ReadFile(hashicorpValues)
	if err != nil {
		t.Fatal(err)
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(block.Text), &given); err != nil {
		t.Fatal(err)
	}
	paths := leaves("", given)
	if len(paths) == 0 {
		t.Error("there is no value here")
	}
	for _, path := range paths {
		if !slices.ContainsFunc(strings.Fields(string(known)), func(value string) bool {
			return path == value || strings.HasPrefix(path, value+".") // one that the chart takes as it is
		}) {
			t.Errorf("HashiCorp's chart has no value %s", path)
		}
	}
}

// leaves returns the dotted paths of an object's values.
func leaves(prefix string, object map[string]any) (paths []string) {
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if below, ok := object[key].(map[string]any); ok {
			paths = append(paths, leaves(prefix+key+".", below)...)
			continue
		}
		paths = append(paths, prefix+key)
	}
	return paths
}

// postRenders installs the block as a plugin of Helm and has it change what HashiCorp's chart says of its clients.
func postRenders(t *testing.T, block Block) {
	helm := program(t, "AGENTLET_TEST_HELM")
	var plugin struct{ Name string }
	if err := yaml.Unmarshal([]byte(block.Text), &plugin); err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	env := []string{"HELM_DATA_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_CACHE_HOME=" + home}
	if out, err := output(t, root, env, helm, "plugin", "install", filepath.Dir(written(t, "plugin.yaml", block.Text))); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	chart := filepath.Dir(written(t, "Chart.yaml", "apiVersion: v2\nname: consul\nversion: 1.0.0\n"))
	if err := os.Mkdir(filepath.Join(chart, "templates"), 0o700); err != nil {
		t.Fatal(err)
	}
	// A line of the DaemonSet's script, and one of the servers' configuration.
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  client: |\n    -hcl='leave_on_terminate = true' \\\n" +
		"  server: |\n    \"leave_on_terminate\": true,\n"
	if err := os.WriteFile(filepath.Join(chart, "templates", "a.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := output(t, root, env, helm, "template", "consul", chart, "--post-renderer", plugin.Name)
	if err != nil || !strings.Contains(out, "-hcl='leave_on_terminate = false'") || !strings.Contains(out, `"leave_on_terminate": true`) {
		t.Errorf("%v: %s", err, out)
	}
}

// kustomized renders a kustomization of a folder beside examples, and requires that each object that it yields is one.
func kustomized(t *testing.T, block Block) {
	kubectl := program(t, "AGENTLET_TEST_KUBECTL")
	here, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	there, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	base, err := filepath.Rel(here, filepath.Join(there, "examples"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(block.Text, "examples/", base+"/")
	if err := os.WriteFile(filepath.Join(here, "kustomization.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := output(t, root, nil, kubectl, "kustomize", here)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	manifest(t, Block{Page: block.Page, Line: block.Line, Text: out})
}

// delivered is an object of Argo CD or of Flux. The chart takes the values in an Application and in a HelmRelease.
func delivered(t *testing.T, block Block) {
	type helm struct {
		ValuesObject map[string]any `json:"valuesObject"`
	}
	var object struct {
		Kind string `json:"kind"`
		Spec struct {
			Source struct{ Helm helm } `json:"source"`
			Values map[string]any      `json:"values"`
		} `json:"spec"`
	}
	if err := yaml.UnmarshalStrict([]byte(block.Text), &map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(block.Text), &object); err != nil {
		t.Fatal(err)
	}
	if object.Kind == "OCIRepository" {
		return // a HelmRelease names it
	}
	given := map[string]map[string]any{"Application": object.Spec.Source.Helm.ValuesObject, "HelmRelease": object.Spec.Values}[object.Kind]
	text, err := yaml.Marshal(given)
	if err != nil || len(given) == 0 {
		t.Fatalf("%s has no values for the chart, %v", object.Kind, err)
	}
	values(t, Block{Page: block.Page, Line: block.Line, Text: string(text)})
}
