// Package docs makes what is generated in the documentation: the pictures, and the tables of the contract, the metrics, the
// alerts and the chart's values. It also makes what the chart's schema and its checks say of `defaults`. All of the contract
// comes from agentlet/contract. In a Markdown file a table stands between markers:
//
//	<!-- generated: NAME -->
//	<!-- end -->
package docs

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentlet/agentlet/hack/bench"
	"github.com/agentlet/agentlet/hack/restart"
)

//go:generate go run ./generate ../..

// pages are the Markdown files with generated tables.
var pages = []string{
	"docs/annotations.md",
	"docs/runbook.md",
	"docs/metrics.md",
	"docs/security.md",
	"docs/migrate.md",
	"docs/consul.md",
	"docs/consul-on-kubernetes.md",
	"docs/clients.md",
	"docs/benchmarks.md",
	"docs/proof.md",
	chartFolder + "README.md",
}

// The picture of a pod's life: the measured data, and the pictures drawn from it.
const (
	lifeFile     = "docs/images/life.json"
	lightPicture = "docs/images/life-light.svg"
	darkPicture  = "docs/images/life-dark.svg"
)

// Files returns the expected content of every file with generated parts, by its path in the repository whose folder is root. It
// writes nothing.
func Files(root string) (map[string]string, error) {
	files := map[string]string{}
	all := tables()
	if err := snippets(root, all); err != nil {
		return nil, err
	}
	values, err := os.ReadFile(filepath.Join(root, chartFolder+"values.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read values: %w", err)
	}
	if all["values"], err = valuesTable(values); err != nil {
		return nil, fmt.Errorf("describe the chart's values: %w", err)
	}
	alerts, err := os.ReadFile(filepath.Join(root, alertsFile))
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	if all["alerts"], err = alertTable(alerts); err != nil {
		return nil, fmt.Errorf("describe the alerts: %w", err)
	}
	claims, err := os.ReadFile(filepath.Join(root, proofFile))
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	if all["proof"], err = proof(root, claims); err != nil {
		return nil, fmt.Errorf("%s: %w", proofFile, err)
	}
	schema, err := os.ReadFile(filepath.Join(root, schemaFile))
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	if files[schemaFile], err = fillDefaults(string(schema)); err != nil {
		return nil, fmt.Errorf("fill %s: %w", schemaFile, err)
	}
	if files[defaultsFile], err = defaultRules(); err != nil {
		return nil, fmt.Errorf("make %s: %w", defaultsFile, err)
	}
	data, err := os.ReadFile(filepath.Join(root, benchmarksFile))
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	measured, err := parseBenchmarks(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", benchmarksFile, err)
	}
	all["capacity"] = measured.capacity()
	all["benchmarks"] = measured.page()
	if measured.Figures[bench.SpanStart] > 0 { // without figures the picture would show times of zero
		files[lightSpans], files[darkSpans] = measured.drawSpans(light), measured.drawSpans(dark)
	}
	data, err = os.ReadFile(filepath.Join(root, lifeFile))
	if err != nil {
		return nil, fmt.Errorf("read life: %w", err)
	}
	life, err := parseLife(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", lifeFile, err)
	}
	files[lightPicture], files[darkPicture] = draw(life, light), draw(life, dark)
	if data, err = os.ReadFile(filepath.Join(root, restartFile)); err != nil {
		return nil, fmt.Errorf("read restarts: %w", err)
	}
	comparison, err := restart.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", restartFile, err)
	}
	files[restartPicture] = drawRestarts(comparison)
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		if files[page], err = fill(string(text), all); err != nil {
			return nil, fmt.Errorf("fill %s: %w", page, err)
		}
	}
	return files, nil
}

// tagged maps the languages of snippets to the tags by which hack/doctest tests them, by folder in docs and by file suffix.
var tagged = map[string]map[string]string{
	"consul": {".sh": "sh check", ".hcl": "hcl policy"},
	"clients": {
		"":       "corefile client",
		".conf":  "nginx client",
		".ctmpl": "nginx client",
		".hcl":   "hcl client",
		".json":  "json client",
		".yml":   "yaml client",
	},
}

// snippets adds the files of these folders, each as a block of code by its path. Tests use the same files.
func snippets(root string, all map[string]string) error {
	for folder, tags := range tagged {
		names, err := filepath.Glob(filepath.Join(root, "docs", folder, "*"))
		if err != nil {
			return fmt.Errorf("list snippets: %w", err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return fmt.Errorf("read snippet: %w", err)
			}
			all[folder+"/"+filepath.Base(name)] = "```" + tags[filepath.Ext(name)] + "\n" + string(text) + "```\n"
		}
	}
	return nil
}
