package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/agentlet/agentlet/agentlet/api"
	"github.com/agentlet/agentlet/agentlet/contract"
)

const runbookFile = "docs/runbook.md"

// sections of the runbook by their heading's anchor, each until the next heading of any level.
func sections(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, runbookFile))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, section := range regexp.MustCompile(`(?m)^##+ `).Split(string(page), -1)[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		anchor := strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(heading), ""), " ", "-")
		all[anchor] = text
	}
	return all
}

// TestEachAlertIsInTheRunbook checks that each alert leads to a section that says something of it.
func TestEachAlertIsInTheRunbook(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, alertsFile))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		t.Fatal(err)
	}
	runbook, alerts := sections(t), map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alerts[rule.Alert] = true
			_, anchor, _ := strings.Cut(rule.Annotations["runbook_url"], "/"+runbookFile+"#")
			if !strings.Contains(runbook[anchor], "`"+rule.Alert+"`") {
				t.Errorf("%s leads to #%s, which says nothing of it", rule.Alert, anchor)
			}
		}
	}
	for anchor, text := range runbook {
		for _, name := range regexp.MustCompile("`(Agentlet[A-Z]\\w+)`").FindAllStringSubmatch(text, -1) {
			if !alerts[name[1]] {
				t.Errorf("#%s: there is no alert %s", anchor, name[1])
			}
		}
	}
}

// TestTheRunbookNamesWhatExists checks its metrics, reasons and log messages, and the parts of messages that the advice quotes.
func TestTheRunbookNamesWhatExists(t *testing.T) {
	metrics := append(api.Metrics(), webhookMetrics()...)
	source := sources(t)
	found := map[string]int{}
	for anchor, text := range sections(t) {
		for _, name := range regexp.MustCompile("`(agentlet_[a-z_]+)`").FindAllStringSubmatch(text, -1) {
			found["metric"]++
			if !slices.ContainsFunc(metrics, func(m contract.Metric) bool { return m.Name == name[1] }) {
				t.Errorf("#%s: there is no metric %s", anchor, name[1])
			}
		}
		for _, line := range regexp.MustCompile("Log: .*|`[^`]+` in the webhook's log").FindAllString(text, -1) {
			for _, message := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
				found["log"]++
				if !strings.Contains(source, `"`+message[1]) {
					t.Errorf("#%s: nothing logs %q", anchor, message[1])
				}
			}
		}
		for _, reason := range regexp.MustCompile(`reason=(\w+)`).FindAllStringSubmatch(text, -1) {
			found["reason"]++
			known := slices.ContainsFunc(contract.Events(), func(e contract.Event) bool { return string(e.Reason) == reason[1] })
			if !known && !slices.Contains([]string{"FailedCreate", "FailedPreStopHook"}, reason[1]) { // of controllers and the kubelet
				t.Errorf("#%s: there is no event %s", anchor, reason[1])
			}
		}
	}
	for reason, text := range advice {
		for _, message := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(text, -1) {
			found["message"]++
			if !strings.Contains(source, message[1]) {
				t.Errorf("%s: no condition says %q", reason, message[1])
			}
		}
	}
	if found["metric"] < 5 || found["log"] < 15 || found["reason"] < 3 || found["message"] < 2 {
		t.Errorf("found only %v", found)
	}
}

// sources are the text of all programs that log.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, folder := range []string{"agentlet", "webhook", "certs", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
				return err
			}
			content, err := os.ReadFile(file)
			all.Write(content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}
