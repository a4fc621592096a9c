package bench

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMet(t *testing.T) {
	for name, c := range map[string]struct {
		row   Row
		value float64
		want  bool
	}{
		"below":         {Row{Target: 5}, 4.9, true},
		"at it":         {Row{Target: 5}, 5, true},
		"above":         {Row{Target: 5}, 5.1, false},
		"enough":        {Row{Target: 1, AtLeast: true}, 1, true},
		"short":         {Row{Target: 1, AtLeast: true}, 0.99, false},
		"only reported": {Row{Target: math.NaN()}, 1e9, true},
	} {
		if got := c.row.Met(c.value); got != c.want {
			t.Errorf("%s: Met(%g) = %v, want %v", name, c.value, got, c.want)
		}
	}
}

func TestRowsAreNamedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range Rows() {
		if seen[row.Name] || row.What == "" || row.Unit == "" {
			t.Errorf("%+v is there twice, or does not say what it is", row)
		}
		seen[row.Name] = true
	}
}

func TestTimesInMillisecondsAreReported(t *testing.T) {
	for _, row := range Rows() {
		if row.Unit == "ms" && !math.IsNaN(row.Target) {
			t.Errorf("%s has a target of %g ms, which another machine won't meet: want a ratio to what is measured beside it", row.Name, row.Target)
		}
	}
}

func TestPrintShowsWhatWasMeasured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := os.WriteFile(file, []byte(`{"gate_over_floor_p50": 1.526, "gate_over_floor_p50_n": 300, "requests": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	figures, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Print(&out, figures); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gate_over_floor_p50", "1.53 ×", "≤ 1.3", "OVER", "300", "≥ 100000", "SHORT  ?  "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "flip_failed") {
		t.Errorf("the table shows what was not measured:\n%s", &out)
	}
}
