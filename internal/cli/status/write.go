package status

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Form is how a table is printed.
type Form struct {
	// Namespaces: with a column for the namespace, as there may be several.
	Namespaces bool
	// Wide: with columns that are rarely needed.
	Wide bool
}

// Write prints rows as a table, and below it what to do next.
func Write(out *printer.Printer, rows []Row, form Form) {
	header := printer.Header(
		"NAMESPACE", "POD", "GATE", "SINCE", "REASON", "SERVICE", "ADDRESS", "CONSUL", "OPENED", "NODE", "DRIFT")
	lines := [][]printer.Cell{header}
	for i := range rows {
		lines = append(lines, line(&rows[i]))
	}
	for i, line := range lines {
		if !form.Wide {
			line = slices.Delete(line, columnOpened, columnOpened+2)
		}
		if !form.Namespaces {
			line = line[1:]
		}
		lines[i] = line
	}
	out.Table("", lines)
	if steps := nextSteps(rows, form.Namespaces); len(steps) > 0 {
		out.Line()
		for _, step := range steps {
			out.Line(printer.Text("→ "), printer.Text(step))
		}
	}
}

// columnOpened is the first of the two columns that only a wide table has.
const columnOpened = 8

// nextSteps returns what to do, once for pods that have the same to be done.
func nextSteps(rows []Row, namespaces bool) (steps []string) {
	type group struct {
		first *Row
		pods  map[string]bool
	}
	groups := map[string]*group{}
	var order []*group
	for i := range rows {
		row := &rows[i]
		if row.NextStep == "" {
			continue
		}
		same := strings.NewReplacer(" "+row.Namespace+" ", " - ", " "+row.Pod, " -").Replace(row.NextStep)
		of := groups[same]
		if of == nil {
			of = &group{row, map[string]bool{}}
			groups[same], order = of, append(order, of)
		}
		of.pods[row.Namespace+"/"+row.Pod] = true
	}
	for _, of := range order {
		who := of.first.Pod
		if namespaces {
			who = of.first.Namespace + "/" + who
		}
		if more := len(of.pods) - 1; more > 0 {
			who += " and " + printer.Count(more, "other pod")
		}
		steps = append(steps, who+": "+of.first.NextStep)
	}
	return steps
}

// Nothing says that there are no rows, and where to look next. It is a note, no result.
func Nothing(namespaces bool) string {
	where := "here"
	if !namespaces {
		where = "in this namespace (-n names another, -A all)"
	}
	return fmt.Sprintf("No pod %s has an agentlet. kubectl agentlet check says which should have one.", where)
}

// WriteNames prints the pods' names as kubectl does, so that they can be given to it.
func WriteNames(out *printer.Printer, rows []Row) {
	for i := range rows {
		if i == 0 || rows[i].Pod != rows[i-1].Pod || rows[i].Namespace != rows[i-1].Namespace {
			out.Line(printer.Text("pod/" + rows[i].Pod))
		}
	}
}

// Wrong returns the rows for which there is something to do.
func Wrong(rows []Row) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(row Row) bool { return row.NextStep == "" })
}

// Same reports whether rows are equal, apart from the time of the catalog reading and from ages.
func Same(a, b []Row) bool {
	return slices.EqualFunc(a, b, func(a, b Row) bool {
		a.CatalogReadAt, b.CatalogReadAt, a.CatalogAge, b.CatalogAge, a.age, b.age = nil, nil, "", "", 0, 0
		return reflect.DeepEqual(a, b)
	})
}

func line(row *Row) []printer.Cell {
	opened := ""
	if row.OpenedSeconds != nil {
		opened = (time.Duration(*row.OpenedSeconds) * time.Second).String()
	}
	since := ""
	if row.Since != nil {
		since = duration.HumanDuration(row.age)
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
		printer.Text(since),
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

// Report is the rows, for programs.
type Report struct {
	printer.Type
	Items []Row `json:"items"`
}

// NewReport returns a report of rows.
func NewReport(rows []Row) Report {
	if rows == nil {
		rows = []Row{}
	}
	return Report{printer.NewType("Status"), rows}
}
