package alerts

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// TestTheOperatorKnowsWhatIsRendered decodes what the chart renders for the Prometheus operator with the operator's types. Unlike
// an API server, which silently drops unknown fields, it rejects them.
func TestTheOperatorKnowsWhatIsRendered(t *testing.T) {
	helm := os.Getenv("AGENTLET_TEST_HELM")
	if helm == "" {
		t.Skip("AGENTLET_TEST_HELM names no helm; make unit sets it")
	}
	template := exec.CommandContext(t.Context(), helm, "template", "agentlet", "../../charts/agentlet", "--namespace=agentlet-system",
		"--set=image.repository=registry.example/agentlet",
		"--set=serviceMonitor.enabled=true,serviceMonitor.interval=15s,serviceMonitor.scrapeTimeout=10s",
		"--set=serviceMonitor.relabelings[0].targetLabel=a,serviceMonitor.metricRelabelings[0].action=drop",
		"--set=prometheusRule.enabled=true,prometheusRule.additionalRuleLabels.team=a,prometheusRule.disabled.AgentletDrainsTimeOut=true",
		"--set=podMonitor.enabled=true,podMonitor.interval=15s,podMonitor.namespaces={shop},podMonitor.scrapeTimeout=10s",
		"--set=podMonitor.relabelings[0].targetLabel=a,podMonitor.metricRelabelings[0].action=drop")
	rendered, err := template.Output()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]any{
		"ServiceMonitor": &monitoringv1.ServiceMonitor{},
		"PodMonitor":     &monitoringv1.PodMonitor{},
		"PrometheusRule": &monitoringv1.PrometheusRule{},
	}
	for documents := kyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(rendered))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var meta metav1.TypeMeta
		if err := errors.Join(err, yaml.Unmarshal(document, &meta)); err != nil {
			t.Fatal(err)
		}
		if meta.GroupVersionKind().Group != "monitoring.coreos.com" {
			continue
		}
		object, known := kinds[meta.Kind]
		delete(kinds, meta.Kind)
		if !known {
			t.Errorf("kind %s is rendered twice, or not known", meta.Kind)
		} else if err := yaml.UnmarshalStrict(document, object); err != nil {
			t.Errorf("%s: %v", meta.Kind, err)
		}
	}
	for kind := range kinds {
		t.Errorf("no %s is rendered", kind)
	}
}
