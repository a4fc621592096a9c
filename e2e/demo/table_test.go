package demo

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/internal/golden"
)

// life returns a pod's life, with its stations at these milliseconds after a fixed time.
func life(pod, node string, at map[observe.Station]int) observe.Life {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l := observe.Life{Pod: pod, Node: node, At: map[observe.Station]time.Time{}}
	for station, ms := range at {
		l.At[station] = start.Add(time.Duration(ms) * time.Millisecond)
	}
	return l
}

func someBirths() []observe.Life {
	return []observe.Life{
		life("web-6c9f7d4b5-x7kqp", "node1", map[observe.Station]int{
			observe.Admitted: 0, observe.ContainersReady: 1204, observe.Registered: 1215, observe.InCatalog: 1213,
			observe.GateOpen: 1230, observe.Ready: 2466,
		}),
		life("web-6c9f7d4b5-q2nzr", "node2", map[observe.Station]int{
			observe.Admitted: 3, observe.ContainersReady: 1503, observe.Registered: 1511,
		}),
		life("web-6c9f7d4b5-bb8wl", "", map[observe.Station]int{observe.Admitted: 5}),
	}
}

func someDeaths() []observe.Life {
	return []observe.Life{
		life("web-6c9f7d4b5-x7kqp", "node1", map[observe.Station]int{
			observe.Admitted: -90000, observe.Deleted: 0, observe.OutOfCatalog: 14, observe.Terminated: 5031, observe.Gone: 6120,
		}),
		life("web-6c9f7d4b5-q2nzr", "node2", map[observe.Station]int{observe.Admitted: -90000}),
	}
}

func TestRender(t *testing.T) {
	for name, test := range map[string]struct {
		table table
		lives []observe.Life
		width int
		style style
	}{
		"births":                 {births, someBirths(), 0, false},
		"births-without-node":    {births, someBirths(), 95, false},
		"births-short-titles":    {births, someBirths(), 78, false},
		"births-short-names":     {births, someBirths(), 64, false},
		"births-clipped":         {births, someBirths(), 40, false},
		"births-coloured":        {births, someBirths(), 0, true},
		"births-before-any":      {births, nil, 80, false},
		"deaths":                 {deaths, someDeaths(), 0, false},
		"deaths-clipped-to-dots": {deaths, someDeaths(), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			lines := test.table.render(test.lives, test.width, test.style)
			if len(lines) != len(test.lives)+1 {
				t.Errorf("%d lines for %d lives", len(lines), len(test.lives))
			}
			for _, line := range lines {
				if n := utf8.RuneCountInString(line); test.width > 0 && n > test.width {
					t.Errorf("%q has %d characters, more than %d", line, n, test.width)
				}
			}
			golden.Check(t, filepath.Join("testdata", name+".golden"), strings.Join(lines, "\n")+"\n")
		})
	}
}

func TestRenderLeavesTheLivesAlone(t *testing.T) {
	lives := someBirths()
	before := lives[0].At[observe.Registered]
	births.render(lives, 0, false)
	if !lives[0].At[observe.Registered].Equal(before) {
		t.Error("render changed a life")
	}
}

func TestPassage(t *testing.T) {
	alive, dying := someBirths()[0], someDeaths()[0]
	unnamed := observe.Life{UID: "0123", At: alive.At}
	for _, test := range []struct {
		life    observe.Life
		station observe.Station
		want    string
	}{
		{alive, observe.GateOpen, "web-6c9f7d4b5-x7kqp  gate open           +1230 ms"},
		{dying, observe.Terminated, "web-6c9f7d4b5-x7kqp  SIGTERM             +5031 ms"},
		{unnamed, observe.Admitted, "0123  admitted            +0 ms"},
		{observe.Life{UID: "0123"}, observe.Ready, "0123  Ready             "},
	} {
		if got := passage(test.life, test.station); got != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
	}
}

func TestPassagesKeepTheOrder(t *testing.T) {
	full := someBirths()[0] // the catalog showed it before the agent was polled
	early := life("web-1", "", map[observe.Station]int{observe.Admitted: 0, observe.InCatalog: 7})
	for _, test := range []struct {
		life    observe.Life
		station observe.Station
		want    int
	}{
		{early, observe.InCatalog, 2},
		{full, observe.Registered, 0},
		{full, observe.Ready, 1},
	} {
		if got := passages(test.life, test.station); len(got) != test.want {
			t.Errorf("%s: %q, want %d lines", test.station, got, test.want)
		}
	}
	if got := passages(early, observe.InCatalog)[0]; got != "web-1  registered          +7 ms" {
		t.Errorf("got %q", got)
	}
}

func TestDisorders(t *testing.T) {
	early := life("early", "", map[observe.Station]int{observe.InCatalog: 20, observe.Ready: 10})
	hasty := life("hasty", "", map[observe.Station]int{observe.OutOfCatalog: 20, observe.Terminated: 10})
	for name, test := range map[string]struct {
		fresh, old []observe.Life
		want       int
	}{
		"in order":                   {someBirths()[:1], someDeaths()[:1], 0},
		"Ready before the catalog":   {[]observe.Life{early}, nil, 1},
		"SIGTERM before the catalog": {nil, []observe.Life{hasty}, 1},
		"never in the catalog":       {someBirths()[1:2], someDeaths()[1:], 2},
	} {
		if errs := disorders(test.fresh, test.old); len(errs) != test.want {
			t.Errorf("%s: %v, want %d", name, errs, test.want)
		}
	}
}
