package demo

import (
	"maps"
	"strconv"
	"unicode/utf8"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/internal/columns"
)

// column is a column of a table: a station, with a shorter title for a narrow terminal.
type column struct {
	station observe.Station
	short   string
}

// table shows one life per row: the milliseconds from the first column's station to each other one.
type table []column

var (
	births = table{
		{observe.Admitted, "admitted"},
		{observe.ContainersReady, "containers"},
		{observe.Registered, "agent"},
		{observe.InCatalog, "catalog"},
		{observe.GateOpen, "gate"},
		{observe.Ready, "Ready"},
	}
	deaths = table{
		{observe.Deleted, "deleted"},
		{observe.OutOfCatalog, "catalog"},
		{observe.Terminated, "SIGTERM"},
		{observe.Gone, "gone"},
	}
)

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
		case all(lives[i-1:i], t[len(t)-1].station):
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
