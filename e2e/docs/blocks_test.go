package docs

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the tags that a fence may have, and how each is tried; docs/contributing.md describes them.
var kinds = map[string]func(t *testing.T, block Block){
	"sh run":          run,
	"sh check":        check,
	"sh cluster":      check, // the scenario TestDocs also runs these
	"yaml pod":        accepted,
	"yaml pod denied": nil, // held against the next block: see TestErrorsAreToldAsThePagesSay
	"yaml pod warned": nil,
	"text errors":     nil,
	"text warnings":   nil,
	"yaml manifest":   manifest,
	"yaml values":     values,
	"yaml apiserver":  configuring,
	"yaml prometheus": scraped,
	"json consul":     configured,
	"yaml admission":  admitted,                  // the scenario TestTrustRatesAreBounded has an API server run with it
	"hcl policy":      triedFile("docs/consul"),  // tests of agentlet/consul hold it against a real Consul
	"nginx client":    triedFile("docs/clients"), // the scenarios TestClients… run these with the programs that they are for
	"hcl client":      triedFile("docs/clients"),
	"yaml client":     triedFile("docs/clients"),
	"json client":     triedFile("docs/clients"),
	"corefile client": triedFile("docs/clients"),
	"go cluster":      compiled,
}

// TestBlocks tries each fenced block as its tag says.
func TestBlocks(t *testing.T) {
	for _, page := range all(t) {
		for _, block := range page.Blocks {
			t.Run(block.Place(), func(t *testing.T) {
				try, known := kinds[block.Kind()]
				switch {
				case !known:
					t.Errorf("a fence tagged %q: want a language and a tag of docs/contributing.md, such as sh check", block.Kind())
				case try != nil:
					try(t, block)
				}
			})
		}
	}
}

// program is the path of a program that make unit names by a variable. Where it doesn't, the test is skipped.
func program(t *testing.T, variable string) string {
	t.Helper()
	file := os.Getenv(variable)
	if file == "" {
		t.Skip(variable + " is not set; make unit sets it")
	}
	return file
}

// commandTimeout bounds each program that is run here. They all end within seconds when nothing else runs.
const commandTimeout = 5 * time.Minute

// output runs a program in a folder and returns what it says, on either stream.
func output(t *testing.T, folder string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = folder, append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// written is the path of a new file with that content.
func written(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// values renders the chart with them, beside those of values.yaml; the schema refuses typos.
func values(t *testing.T, block Block) {
	helm := program(t, "AGENTLET_TEST_HELM")
	out, err := output(t, root, nil, helm, "template", "agentlet", "charts/agentlet", "-f", written(t, "values.yaml", block.Text))
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// scraped has promtool check a Prometheus configuration; the rule file that it names is the chart's. Debian's promtool knows no
// discovery by Kubernetes, so that part, which has to be there, is replaced by another.
func scraped(t *testing.T, block Block) {
	promtool := program(t, "AGENTLET_TEST_PROMTOOL")
	var config map[string]any
	if err := yaml.UnmarshalStrict([]byte(block.Text), &config); err != nil {
		t.Fatal(err)
	}
	jobs, _ := config["scrape_configs"].([]any)
	for _, job := range jobs {
		job, _ := job.(map[string]any)
		if _, there := job["kubernetes_sd_configs"]; !there {
			t.Errorf("%v has no kubernetes_sd_configs", job["job_name"])
		}
		delete(job, "kubernetes_sd_configs")
		job["static_configs"] = []any{map[string]any{"targets": []string{"192.0.2.1:8080"}}}
	}
	text, err := yaml.Marshal(config)
	if err != nil || len(jobs) == 0 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	file := written(t, "prometheus.yml", string(text))
	rules, err := os.ReadFile(filepath.Join(root, "charts/agentlet/files/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "alerts.yaml"), rules, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := output(t, root, nil, promtool, "check", "config", file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// configuring wants a file of the API server that the scenarios run with, in a folder of its own.
func configuring(t *testing.T, block Block) {
	files, err := filepath.Glob(filepath.Join(root, "e2e/cluster/templates/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if block.Text == strings.ReplaceAll(string(content), "{{ .Folder }}", "/etc/kubernetes/webhooks") {
			return
		}
	}
	t.Error("no file of e2e/cluster/templates is like this, in /etc/kubernetes/webhooks")
}

// configured has Consul validate an agent's configuration, with an address for the placeholder IP.
func configured(t *testing.T, block Block) {
	consul := program(t, "AGENTLET_TEST_CONSUL")
	text := strings.ReplaceAll(block.Text, `"IP"`, `"192.0.2.1"`)
	if out, err := output(t, root, nil, consul, "validate", written(t, "consul.json", text)); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// admitted is an API server's configuration of admission, with one plugin at least.
func admitted(t *testing.T, block Block) {
	var config apiserverv1.AdmissionConfiguration
	if err := yaml.UnmarshalStrict([]byte(block.Text), &config); err != nil {
		t.Fatal(err)
	}
	if config.APIVersion != apiserverv1.SchemeGroupVersion.String() || config.Kind != "AdmissionConfiguration" || len(config.Plugins) == 0 {
		t.Errorf("%+v", config)
	}
}

// triedFile is the text of a file of that folder, which other tests try.
func triedFile(folder string) func(t *testing.T, block Block) {
	return func(t *testing.T, block Block) {
		files, err := filepath.Glob(filepath.Join(root, folder, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && string(text) == block.Text {
				return
			}
		}
		t.Errorf("this is no file of %s, whose files are tried", folder)
	}
}

// compiled builds the body of a function with a context, an error, and the packages of e2e that it names.
func compiled(t *testing.T, block Block) {
	file := written(t, "main.go", "package main\n\nimport (\n\t\"context\"\n\n\t\"github.com/agentlet/agentlet/e2e/cluster\"\n)\n\n"+
		"func main() {\n\tctx := context.Background()\n"+block.Text+"\t_, _ = release, err\n}\n")
	if out, err := output(t, filepath.Join(root, "e2e"), nil, "go", "vet", file); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
