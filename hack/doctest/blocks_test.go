package doctest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the possible tags of a fence, each with its test; the package's comment describes them.
var kinds = map[string]func(t *testing.T, block Block){
	"sh run":          run,
	"sh check":        check,
	"sh cluster":      check, // the scenario TestDocs also runs these blocks
	"yaml pod":        accepted,
	"yaml pod denied": nil, // compared with the next block: see TestErrorsAreToldAsThePagesSay
	"yaml pod warned": nil,
	"text errors":     nil,
	"text warnings":   nil,
	"yaml manifest":   manifest,
	"yaml values":     values,
	"yaml apiserver":  configuring,
	"json consul":     configured,
	"yaml admission":  admitted,                  // the scenario TestTrustRatesAreBounded runs an API server with it
	"hcl policy":      triedFile("docs/consul"),  // tests of agentlet/consul use it with a real Consul
	"nginx client":    triedFile("docs/clients"), // the scenarios TestClients… run these with their programs
	"hcl client":      triedFile("docs/clients"),
	"yaml client":     triedFile("docs/clients"),
	"json client":     triedFile("docs/clients"),
	"corefile client": triedFile("docs/clients"),
	"go cluster":      nil, // tests of e2e/cluster compile it

	"gitcommit message":  message,
	"mermaid":            drawn,
	"yaml consul-k8s":    hashicorp,
	"yaml plugin":        postRenders,
	"yaml kustomization": kustomized,
	"yaml gitops":        delivered,
}

// TestBlocks tests each fenced block by its tag.
func TestBlocks(t *testing.T) {
	for _, page := range all(t) {
		for _, block := range page.Blocks {
			t.Run(block.Place(), func(t *testing.T) {
				try, known := kinds[block.Kind()]
				switch {
				case !known:
					t.Errorf("a fence tagged %q: want a language and a tag of the comment of hack/doctest, such as sh check", block.Kind())
				case try != nil:
					try(t, block)
				}
			})
		}
	}
}

// program returns the path of a program from a variable that `make unit` sets. Without the variable the test is skipped.
func program(t *testing.T, variable string) string {
	t.Helper()
	file := os.Getenv(variable)
	if file == "" {
		t.Skip(variable + " is not set; make unit sets it")
	}
	return file
}

// commandTimeout bounds each program. On an idle machine they all end within seconds.
const commandTimeout = 5 * time.Minute

// output runs a program in a folder and returns its stdout and stderr.
func output(t *testing.T, folder string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = folder, append(os.Environ(), env...)
	out, err := command.CombinedOutput()
	return string(out), err
}

// written writes a new file with this content, and returns its path.
func written(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// anImage is the value that the chart requires, for pages that give only others.
const anImage = "image.repository=registry.example/agentlet"

// shortened is a certificate of which pages show the beginning alone.
var shortened = regexp.MustCompile(`( *)-----BEGIN CERTIFICATE-----\n *…`)

// values renders the chart with the block's values over those of values.yaml. The schema rejects typos.
func values(t *testing.T, block Block) {
	helm := program(t, "AGENTLET_TEST_HELM")
	text := shortened.ReplaceAllStringFunc(block.Text, func(found string) string {
		indented := shortened.FindStringSubmatch(found)[1]
		return indented + strings.ReplaceAll(strings.TrimSpace(certificate(t)), "\n", "\n"+indented)
	})
	out, err := output(t, root, nil, helm, "template", "agentlet", "charts/agentlet",
		"--set", anImage, "-f", written(t, "values.yaml", text))
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPrometheusTakesTheExample checks examples/prometheus.yml with promtool; its rule file is the chart's. Debian's promtool has
// no Kubernetes service discovery, so that part, which must exist, is replaced by static targets.
func TestPrometheusTakesTheExample(t *testing.T) {
	promtool := program(t, "AGENTLET_TEST_PROMTOOL")
	example, err := os.ReadFile(filepath.Join(root, "examples/prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := yaml.UnmarshalStrict(example, &config); err != nil {
		t.Fatal(err)
	}
	jobs, _ := config["scrape_configs"].([]any)
	for _, job := range jobs {
		job, _ := job.(map[string]any)
		if _, there := job["kubernetes_sd_configs"]; !there {
			t.Errorf("%v has no kubernetes_sd_configs", job["job_name"])
		}
		delete(job, "kubernetes_sd_configs")
		delete(job, "authorization") // its file is in a pod alone
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

// configuring requires that the block equals a configuration file of the scenarios' API server, in another folder.
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

// configured validates a Consul agent's configuration with Consul, with an address for the placeholder IP.
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

// triedFile requires that the block equals a file of that folder, which other tests use.
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
