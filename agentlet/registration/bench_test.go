package registration

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// benchmarked are pods by what they ask for, without errors.
var benchmarked = map[string]annotations{
	"flat": {"service-names": "web,api", "service-tags": "v1,blue", "service-meta": "team:core", "meta-from-labels": "app", "drain-delay": "7s"},
	"structured": {"services": `
- name: web
  port: http
  tags: [v1, blue]
  meta: {team: core}
  weights: {passing: 2}
  checks:
  - {http: /healthz, interval: 10s, timeout: 1s}
  connect:
    sidecar_service:
      proxy:
        upstreams:
        - {destination_name: api, local_bind_port: 5000}
`},
	"probe":        {"service-names": "web", "readiness": "probe"},
	"unknown keys": {"service-names": "web", "drain-dealy": "5s", "service-prot.web": "http", "service-tags.wbe": "v1"},
}

// BenchmarkParse is what the agentlet does at each update of its pod.
func BenchmarkParse(b *testing.B) {
	benchmark(b, func(pod *corev1.Pod) field.ErrorList { _, errs := Parse(pod, nil); return errs })
}

// BenchmarkLint is what the webhook does for each pod, and the plugin.
func BenchmarkLint(b *testing.B) {
	benchmark(b, func(pod *corev1.Pod) field.ErrorList { _, _, errs := Lint(pod, nil, nil); return errs })
}

func benchmark(b *testing.B, parse func(*corev1.Pod) field.ErrorList) {
	b.Helper()
	for name, annotations := range benchmarked {
		pod := newPod(annotations)
		pod.Labels[contract.Prefix+"service-tags"] = "v1"
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if errs := parse(pod); len(errs) > 0 {
					b.Fatal(errs)
				}
			}
		})
	}
}
