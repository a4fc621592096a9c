package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/hack/restart"
)

// comparison returns two restarts of one pod each; by hand two requests failed.
func comparison() restart.Comparison {
	pods := func(out, term int) restart.Restart {
		return restart.Restart{
			Requests: 1200,
			Old: []restart.Pod{{Name: "old", At: map[string]int{
				restart.Deleted: 2000, restart.OutOfCatalog: out, restart.SIGTERM: term, restart.Gone: term + 900,
			}}},
			New: []restart.Pod{{Name: "new", At: map[string]int{restart.Admitted: 20, restart.Ready: 1900, restart.InCatalog: 1200}}},
		}
	}
	c := restart.Comparison{Rate: 100, ByHand: pods(2090, 2030), Agentlet: pods(2033, 7044)}
	c.ByHand.Failed = []int{2035, 2061}
	return c
}

func TestRestartPictureSaysWhatWasMeasured(t *testing.T) {
	picture := drawRestarts(comparison())
	words := wordsOf(t, picture)
	for _, want := range []string{
		"Without Agentlet", "2 of 1,200 requests failed", "SIGTERM, and in Consul for 60 ms more", "2 failed",
		"With Agentlet", "0 of 1,200 requests failed", "out of Consul 5.0 s, still answers",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("the picture doesn't say %q: %s", want, words)
		}
	}
	if n := strings.Count(picture, `<rect class="bad come"`); n != 2 {
		t.Errorf("%d marks for 2 failed requests", n)
	}
}

func TestRestartPictureMovesOnlyWhereItMay(t *testing.T) {
	picture := drawRestarts(comparison())
	style, body, _ := strings.Cut(picture, "</style>")
	allowed, rest, _ := strings.Cut(style, "@media (prefers-reduced-motion:no-preference){")
	if strings.Contains(allowed, "animation:") || !strings.Contains(rest, "animation:") {
		t.Error("the animation is not limited to those who have nothing against it")
	}
	if !strings.Contains(allowed, "@media (prefers-color-scheme:dark)") {
		t.Error("there are no colours for the dark")
	}
	if strings.Contains(body, "opacity:0") || strings.Contains(body, `opacity="0"`) {
		t.Error("something can't be seen without the animation")
	}
}

func TestRestartPictureStaysInItsFrame(t *testing.T) {
	p := &clip{end: 10000}
	for name, test := range map[string]struct {
		ms   int
		want float64
	}{
		"long before": {-90000, plotLeft}, "begin": {-before, plotLeft}, "end": {10000, plotRight}, "after": {11000, plotRight},
	} {
		if got := p.x(test.ms); got != test.want {
			t.Errorf("%s: x = %g, want %g", name, got, test.want)
		}
	}
	if p.delay(-before) != 0 || p.delay(10000) != playedSeconds {
		t.Errorf("the animation goes from %g s to %g s", p.delay(-before), p.delay(10000))
	}
}

func TestClusters(t *testing.T) {
	for name, test := range map[string]struct {
		failed []int
		want   []cluster
	}{
		"none":                  {nil, nil},
		"one":                   {[]int{7}, []cluster{{7, 7, 1}}},
		"one cause":             {[]int{7, 200, 410}, []cluster{{7, 410, 3}}},
		"three causes":          {[]int{7, 200, 1950, 8000}, []cluster{{7, 200, 2}, {1950, 1950, 1}, {8000, 8000, 1}}},
		"too near for labels":   {[]int{1000, 1400, 5000}, []cluster{{1000, 1400, 2}, {5000, 5000, 1}}},
		"far from a long one's": {[]int{1000, 1400, 1500, 1700, 1900, 2100, 2400}, []cluster{{1000, 1000, 1}, {1400, 2400, 6}}},
	} {
		if got := clusters(test.failed, 500); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestMeasuredRestartsShowWhatTheReadmeSays(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, restartFile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := restart.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Agentlet.Failed) > 0 || c.Agentlet.Lead() <= 0 || len(c.ByHand.Failed) == 0 {
		t.Errorf("the measured restarts show something else: %s", c.Verdict())
	}
}
