package docs

import (
	"strings"
	"testing"

	"github.com/agentlet/agentlet/hack/bench"
)

func TestPageOfFigures(t *testing.T) {
	b, err := parseBenchmarks([]byte(`{"date": "2026-01-02", "machine": "two cores", "figures": {
		"start_added_s_kubelet": 1.18, "gone_over_floor_p50": 1.2, "storm_s": 31.2, "storm_peak_rps": 584}, "earlier":
		{"date": "2025-12-31", "machine": "one core", "figures": {"agentlet_anon_mib": 6, "gate_ms_p50": 101}}}`))
	if err != nil {
		t.Fatal(err)
	}
	page := b.page()
	for name, part := range map[string]string{
		"a missed target":              "| with `readiness: kubelet` | **1.18** (≤1.1) |  |  |",
		"a ratio":                      "| deleted → out of it |  |  | 1.2× (≤1.3) |",
		"a figure in the list":         "| `storm_peak_rps` | 584 /s (≤2000) |",
		"missed in an earlier run":     "|  | **6**† (≤5) |",
		"of an earlier run, in a grid": "| → gate True | 101† |",
		"both dates":                   "Measured on 2026-01-02, two cores. Bold: misses the target.\n†: on 2025-12-31, one core.\n",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("%s: the page lacks %q:\n%s", name, part, page)
		}
	}
	for name, part := range map[string]string{
		"a figure of a grid in the list": "`gate_ms_p50`", "what was not measured": "failed_requests", "a figure without a target": "storm_s",
	} {
		if strings.Contains(page, part) {
			t.Errorf("%s: the page has %q:\n%s", name, part, page)
		}
	}
	delete(b.Figures, "agentlet_anon_mib")
	delete(b.Figures, "gate_ms_p50")
	if page := b.page(); strings.Contains(page, "†") {
		t.Errorf("a page without an earlier figure has the mark:\n%s", page)
	}
}

func TestUnlike(t *testing.T) {
	for _, test := range [][3]string{
		{"two cores; busy", "two cores, idle", "as above; busy"},
		{"two cores", "two cores", "as above"},
		{"two cores, busy", "two cores of a host", "two cores, busy"},
		{"one core", "two cores", "one core"},
		{"two cores, busy", "two cores, big", "two cores, busy"},
	} {
		if got := unlike(test[0], test[1]); got != test[2] {
			t.Errorf("unlike(%q, %q) = %q, want %q", test[0], test[1], got, test[2])
		}
	}
}

func TestGridsHoldKnownFigures(t *testing.T) {
	known := map[string]bool{"": true}
	for _, row := range bench.Rows() {
		known[row.Name] = true
	}
	shown := map[string]bool{}
	for _, g := range grids {
		for _, r := range g.rows {
			if len(r.figures) != len(g.head)-1 {
				t.Errorf("%s, %s: %d figures in %d columns", g.head[0], r.what, len(r.figures), len(g.head)-1)
			}
			for _, name := range r.figures {
				if !known[name] || name != "" && shown[name] {
					t.Errorf("%s is no figure, or is there twice", name)
				}
				shown[name] = true
			}
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
