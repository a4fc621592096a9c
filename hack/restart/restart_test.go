package restart

import (
	"encoding/json"
	"strings"
	"testing"
)

func some() Comparison {
	old := func(out, term int) Pod {
		return Pod{Name: "old", At: map[string]int{Admitted: -9000, Deleted: 2000, OutOfCatalog: out, SIGTERM: term, Gone: term + 900}}
	}
	fresh := []Pod{{Name: "new", At: map[string]int{Admitted: 20, Ready: 1900, InCatalog: 1200}}}
	return Comparison{
		Rate:     100,
		ByHand:   Restart{Requests: 912, Failed: []int{2031, 2040}, Old: []Pod{old(2060, 2030)}, New: fresh},
		Agentlet: Restart{Requests: 2282, Old: []Pod{old(2033, 7043), old(2040, 7300)}, New: fresh},
	}
}

func TestVerdict(t *testing.T) {
	hasty := some()
	hasty.Agentlet.Old[1].At[SIGTERM] = 2040
	hasty.Agentlet.Failed = []int{2041}
	for name, test := range map[string]struct {
		of   Comparison
		want string
	}{
		"as promised": {some(), "2 pods replaced under 100 requests/s: 0 of 2,282 failed (without Agentlet: 2 of 912); " +
			"every old pod had left Consul 5.0 s before its SIGTERM"},
		"too late": {hasty, "2 pods replaced under 100 requests/s: 1 of 2,282 failed (without Agentlet: 2 of 912); " +
			"an old pod was still in Consul at its SIGTERM"},
	} {
		if got := test.of.Verdict(); got != test.want {
			t.Errorf("%s: got  %s\nwant %s", name, got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Comparison)
		want   string // in the error; empty for none
	}{
		"complete":      {func(*Comparison) {}, ""},
		"no old pods":   {func(c *Comparison) { c.ByHand.Old = nil }, "byHand: 0 old and 1 new pods"},
		"no SIGTERM":    {func(c *Comparison) { delete(c.Agentlet.Old[1].At, SIGTERM) }, `agentlet: old has no station "SIGTERM"`},
		"never passing": {func(c *Comparison) { delete(c.ByHand.New[0].At, InCatalog) }, `has no station "in the catalog"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := some()
			c.ByHand.New = []Pod{{Name: "new", At: map[string]int{Admitted: 20, Ready: 1900, InCatalog: 1200}}}
			test.change(&c)
			data, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(data)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	if _, err := Parse([]byte(`{"rat": 100}`)); err == nil {
		t.Error("an unknown field is no error")
	}
}
