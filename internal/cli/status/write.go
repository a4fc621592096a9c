package status

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Write prints rows as a table, with a namespace column if there is more than one namespace.
func Write(out *printer.Printer, rows []Row, namespaces bool) {
	if len(rows) == 0 {
		where := "here"
		if !namespaces {
			where = "in this namespace (-n names another, -A all)"
		}
		out.Line(printer.Text(fmt.Sprintf("No pod %s has an agentlet. kubectl agentlet check says which should have one.", where)))
		return
	}
	header := printer.Header("NAMESPACE", "POD", "GATE", "REASON", "SERVICE", "ADDRESS", "CONSUL", "OPENED", "NODE", "DRIFT")
	lines := [][]printer.Cell{header}
	for i := range rows {
		lines = append(lines, line(&rows[i]))
	}
	if !namespaces {
		for i := range lines {
			lines[i] = lines[i][1:]
		}
	}
	out.Table("", lines)
}

// Same reports whether rows are equal, apart from the time of the catalog reading.
func Same(a, b []Row) bool {
	return slices.EqualFunc(a, b, func(a, b Row) bool {
		a.CatalogReadAt, b.CatalogReadAt, a.CatalogAge, b.CatalogAge = nil, nil, "", ""
		return reflect.DeepEqual(a, b)
	})
}

func line(row *Row) []printer.Cell {
	opened := ""
	if row.OpenedSeconds != nil {
		opened = (time.Duration(*row.OpenedSeconds) * time.Second).String()
	}
	consul := printer.Cell{Text: clip(row.Consul), Colour: healthColour(row.Consul)}
	switch {
	case !row.stale:
	case row.CatalogAge == unknown:
		consul.Text += " (age unknown)"
	default:
		consul.Text += fmt.Sprintf(" (%s ago)", row.CatalogAge)
	}
	drift := printer.Cell{Text: row.Drift, Colour: printer.Yellow}
	if row.starting {
		drift.Colour = printer.Plain
	}
	return []printer.Cell{
		printer.Text(row.Namespace),
		{Text: row.Pod, Colour: printer.Bold},
		{Text: row.Gate, Colour: gateColour(row.Gate)},
		printer.Text(clip(string(row.Reason))),
		printer.Text(clip(row.Service)), printer.Text(clip(row.Address)),
		consul, printer.Text(opened), printer.Text(row.Node), drift,
	}
}

// clip shortens a pod's own text: a long one would widen its column in every row.
func clip(text string) string {
	const most = contract.MaxServiceName + 1
	return printer.Clip(printer.Escape(text), most)
}

func gateColour(gate string) printer.Colour {
	switch gate {
	case "open":
		return printer.Green
	case "closed":
		return printer.Yellow
	}
	return printer.Plain
}

func healthColour(health string) printer.Colour {
	switch contract.Health(health) {
	case contract.Passing:
		return printer.Green
	case contract.Warning:
		return printer.Yellow
	case contract.Critical:
		return printer.Red
	}
	return printer.Plain
}

// WriteJSON writes rows as a JSON list.
func WriteJSON(out io.Writer, rows []Row) error {
	if rows == nil {
		rows = []Row{}
	}
	return printer.JSON(out, rows)
}
