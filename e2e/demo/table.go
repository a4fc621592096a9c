package demo

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/internal/columns"
)

// column is a column of a table: a station, with a shorter title for a narrow terminal.
type column struct {
	station observe.Station
	short   string
	// note says what the time from the column before goes into.
	note string
}

// table shows one life per row: the milliseconds from the first column's station to each other one.
type table []column

const (
	starting = "scheduler, image, the application's start, and the kubelet's readiness probe each second"
	ending   = "the application ends, then its sidecar; the kubelet removes the pod"
)

var (
	births = table{
		{observe.Admitted, "admitted", ""},
		{observe.ContainersReady, "containers", starting},
		{observe.Registered, "agent", "the agentlet registers with the node's Consul agent"},
		{observe.InCatalog, "catalog", "Consul's servers show it as passing: clients are sent here from now on"},
		{observe.GateOpen, "gate", "the agentlet has seen that, and opens the pod's readiness gate"},
		{observe.Ready, "Ready", "the kubelet reads the gate; only now may the rollout end an old pod"},
	}
	deaths = table{
		{observe.Deleted, "deleted", ""},
		{observe.OutOfCatalog, "catalog", "the agentlet deregisters, and waits until Consul's servers have dropped it"},
		{observe.Terminated, "SIGTERM", "drain-delay (5 s): clients that hold an older answer end their requests"},
		{observe.Gone, "gone", ending},
	}
	birthsByHand = table{
		{observe.Admitted, "admitted", ""},
		{observe.ContainersReady, "containers", starting},
		{observe.Ready, "Ready", "nothing to wait for: the rollout may end an old pod, whatever Consul shows"},
		{observe.InCatalog, "catalog", "Consul's own check, every 10 s, has succeeded: clients are sent here from now on"},
	}
	deathsByHand = table{
		{observe.Deleted, "deleted", ""},
		{observe.Terminated, "SIGTERM", "at once, to the application and to the sidecar: the application ends"},
		{observe.OutOfCatalog, "catalog", "the sidecar deregisters; until here clients are sent to an application that has ended"},
		{observe.Gone, "gone", ending},
	}
)

// notes explains the table's gaps: a line for each column but the first, with the shortest and the longest time since the column
// before, and what it went into. Stations are seen by different watches, so what comes at once can seem to come before.
func (t table) notes(lives []observe.Life) []string {
	rows := [][]string{}
	for i, c := range t[1:] {
		took := []int64{}
		for _, life := range lives {
			if d, ok := sound(life).Between(t[i].station, c.station); ok {
				took = append(took, max(0, d.Milliseconds()))
			}
		}
		if len(took) == 0 {
			continue
		}
		gap := fmt.Sprintf("%d ms", slices.Min(took))
		if most := slices.Max(took); most != slices.Min(took) {
			gap = fmt.Sprintf("%d to %d ms", slices.Min(took), most)
		}
		rows = append(rows, []string{"  " + string(t[i].station) + " → " + string(c.station), gap, c.note})
	}
	return columns.Align(rows, 0, nil)
}

// pending stands for a station that has not been passed.
const pending = "·"

// shortPod is how many characters of a pod's name a narrow terminal shows: its end, which differs between the pods of a
// Deployment.
const shortPod = 12

// render returns the table's lines, at most width characters wide; 0 means no limit. To fit, it omits in this order: the nodes,
// the long titles, the start of the pods' names, and the end of the lines.
func (t table) render(lives []observe.Life, width int, style style) []string {
	var lines []string
	for _, fit := range []struct{ node, long, name bool }{{true, true, true}, {false, true, true}, {false, false, true}, {}} {
		names := 1 // number of leading text columns
		if fit.node {
			names = 2
		}
		rows := [][]string{t.head(fit.node, fit.long)}
		for _, life := range lives {
			rows = append(rows, t.row(life, fit.node, fit.name))
		}
		lines = columns.Align(rows, names, nil)
		if width <= 0 || utf8.RuneCountInString(lines[0]) <= width { // as wide as all lines, since it ends with a number's title
			break
		}
	}
	for i, line := range lines {
		line = clip(line, width)
		switch {
		case i == 0:
			line = style.head(line)
		case observe.AllPassed(lives[i-1:i], t[len(t)-1].station):
			line = style.done(line)
		}
		lines[i] = line
	}
	return lines
}

func (t table) head(node, long bool) []string {
	row := []string{"pod"}
	if node {
		row = append(row, "node")
	}
	for _, c := range t {
		if long {
			row = append(row, string(c.station))
		} else {
			row = append(row, c.short)
		}
	}
	return row
}

func (t table) row(life observe.Life, node, name bool) []string {
	row := []string{life.Pod}
	if excess := utf8.RuneCountInString(life.Pod) - shortPod; !name && excess > 0 {
		row[0] = "…" + life.Pod[excess+1:] // pod names are ASCII
	}
	if node {
		row = append(row, life.Node)
	}
	life = sound(life)
	for _, c := range t {
		cell := pending
		if took, ok := life.Between(t[0].station, c.station); ok {
			cell = strconv.FormatInt(took.Milliseconds(), 10)
		}
		row = append(row, cell)
	}
	return row
}

// sound corrects impossible orders: the agents are polled, while the catalog's changes arrive at once; if the catalog has an
// instance, its agent had it before.
func sound(life observe.Life) observe.Life {
	inCatalog, shown := life.At[observe.InCatalog]
	if registered, seen := life.At[observe.Registered]; shown && (!seen || registered.After(inCatalog)) {
		life.At = maps.Clone(life.At)
		life.At[observe.Registered] = inCatalog
	}
	return life
}

// clip cuts a line at width characters; 0 means no limit.
func clip(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}
