package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/internal/bench"
)

func TestBenchmarksTable(t *testing.T) {
	b, err := parseBenchmarks([]byte(`{"date": "2026-01-02", "machine": "two cores", "figures": {
		"gate_over_floor_p50": 1.526, "gate_over_floor_p50_n": 100, "gone_over_floor_p50": 1.2, "gate_ms_p50": 1000}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		names      []string
		has, lacks []string
	}{
		"all": {nil, []string{
			"| `gate_over_floor_p50` | **1.53 ×** | ≤ 1.3 | 100 |", "| `gone_over_floor_p50` | 1.2 × | ≤ 1.3 |",
			"| `gate_ms_p50` | 1000 ms | reported |", "Measured on 2026-01-02, two cores.",
		}, []string{"storm_s"}},
		"chosen":       {[]string{"gone_over_floor_p50"}, []string{"| `gone_over_floor_p50` |"}, []string{"gate_over_floor_p50"}},
		"not measured": {[]string{"storm_s"}, []string{"Measured on"}, []string{"storm_s", "gone_over_floor_p50"}},
	} {
		t.Run(name, func(t *testing.T) {
			table := b.table(c.names...)
			for _, part := range c.has {
				if !strings.Contains(table, part) {
					t.Errorf("the table lacks %q:\n%s", part, table)
				}
			}
			for _, part := range c.lacks {
				if strings.Contains(table, part) {
					t.Errorf("the table has %q:\n%s", part, table)
				}
			}
		})
	}
}

// TestFiguresOfAnEarlierRun: a figure that was not measured again says so.
func TestFiguresOfAnEarlierRun(t *testing.T) {
	b, err := parseBenchmarks([]byte(`{"date": "2026-01-02", "machine": "two cores", "figures": {"gate_ms_p50": 2}, "earlier":
		{"date": "2025-12-31", "machine": "one core", "figures": {"gate_ms_p50": 1, "gone_ms_p50": 3, "gone_ms_p50_n": 7}}}`))
	if err != nil {
		t.Fatal(err)
	}
	table := b.table()
	for _, part := range []string{"| `gate_ms_p50` | 2 ms |", "| `gone_ms_p50` | 3 ms † | reported | 7 |", "†: on 2025-12-31, one core."} {
		if !strings.Contains(table, part) {
			t.Errorf("the table lacks %q:\n%s", part, table)
		}
	}
	if strings.Contains(b.table("gate_ms_p50"), "†") {
		t.Errorf("a table without such a figure has the mark:\n%s", b.table("gate_ms_p50"))
	}
}

func TestShownFiguresAreKnown(t *testing.T) {
	known := map[string]bool{}
	for _, row := range bench.Rows() {
		known[row.Name] = true
	}
	for _, name := range slices.Concat(headline, sizing) {
		if !known[name] {
			t.Errorf("%s is no figure", name)
		}
	}
}

func TestBenchmarksWithoutTheirCircumstancesAreRefused(t *testing.T) {
	for _, data := range []string{
		`{}`, `{"date": "x", "machine": "y", "figures": {}}`, `{"date": "x", "figures": {"a": 1}}`,
		`{"date": "x", "machine": "y", "figures": {"a": 1}, "earlier": {"figures": {"b": 1}}}`, `{"when": "x"}`, `[`,
	} {
		if _, err := parseBenchmarks([]byte(data)); err == nil {
			t.Errorf("%s was taken", data)
		}
	}
}

func TestSpansAreDrawnToScale(t *testing.T) {
	b := benchmarks{Figures: map[string]float64{bench.SpanStart: 300, bench.SpanReady: 100}}
	picture := b.drawSpans(light)
	// The widths are three quarters and one quarter of 870 pixels.
	for _, want := range []string{`width="652.5"`, `width="217.5"`, "300 ms", "agentlet: gate"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the picture has no %s:\n%s", want, picture)
		}
	}
}
