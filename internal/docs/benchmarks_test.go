package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/internal/bench"
)

func TestBenchmarksTableSaysWhatIsBeyondItsBar(t *testing.T) {
	b, err := parseBenchmarks([]byte(`{"date": "2026-01-02", "machine": "two cores", "figures": {"gate_ms_p50": 31.26, "gate_ms_p50_n": 300, "gone_ms_p50": 12}}`))
	if err != nil {
		t.Fatal(err)
	}
	table := b.table()
	for _, want := range []string{
		"| `gate_ms_p50` | **31.3 ms** | ≤ 25 | 300 |", "| `gone_ms_p50` | 12 ms |", "| `storm_s` | not measured | reported |  |",
		"Measured on 2026-01-02, two cores.",
	} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
	if short := b.table("gone_ms_p50"); strings.Contains(short, "gate_ms_p50") || !strings.Contains(short, "gone_ms_p50") {
		t.Errorf("of chosen figures:\n%s", short)
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
	for _, data := range []string{`{}`, `{"date": "x", "machine": "y", "figures": {}}`, `{"date": "x", "figures": {"a": 1}}`, `{"when": "x"}`, `[`} {
		if _, err := parseBenchmarks([]byte(data)); err == nil {
			t.Errorf("%s was taken", data)
		}
	}
}

func TestSpansAreDrawnToScale(t *testing.T) {
	b := benchmarks{Figures: map[string]float64{bench.SpanStart: 300, bench.SpanReady: 100}}
	picture := b.drawSpans(light)
	// Of 870 pixels three quarters, and a quarter.
	for _, want := range []string{`width="652.5"`, `width="217.5"`, "300 ms", "agentlet: gate"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the picture has no %s:\n%s", want, picture)
		}
	}
}
