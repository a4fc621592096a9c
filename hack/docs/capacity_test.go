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
		"| nodes | 10–34 | 91–334 | 910–3,334 |",
		"| memory, GiB | 0.1 | 1 | 10 |",
		"| requests of quiet pods/s | 1 | 10 | 100 |",
		"| requests/s | 11 | 11 | 11 |",
		"raft writes/s | 0.5 | 5 | 50 |",
		"| processor cores | 0.005 | 0.05 | 0.5 |",
		"| their reads/s | 133 | 1,333 | 13,333 |",
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
