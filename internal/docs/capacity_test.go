package docs

import (
	"strings"
	"testing"
)

func TestCapacity(t *testing.T) {
	table := benchmarks{Figures: map[string]float64{
		"scale_kube_mib_per_pod_5000": 0.1024, "quiet_kube_rpm": 0.06, "quiet_agent_rpm": 6, "scale_consul_cpu_ms_per_event_5000": 15,
	}}.capacity()
	for _, want := range []string{
		"| nodes, at 110 to 30 pods each | 10 – 34 | 91 – 334 | 910 – 3,334 |",
		"| their memory for these pods | 0.1 GiB | 1 GiB | 10 GiB |",
		"| requests of quiet pods | 1 /s | 10 /s | 100 /s |",
		"| requests, mostly heartbeats | 11 /s | 11 /s | 11 /s |",
		"| raft writes | 0.5 /s | 5 /s | 50 /s |",
		"| processor time | 0.005 of a core | 0.05 of a core | 0.5 of a core |",
		"| their reads, where a check changes somewhere every few seconds | 133 /s | 1,333 /s | 13,333 /s |",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("no %s in\n%s", want, table)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.5: "0.5", 0.0049: "0.0049", 9.87: "9.9", 12.3: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%g) = %s, want %s", n, got, want)
		}
	}
}
