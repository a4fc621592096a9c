package versions

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// shownWorkloads is how many workloads are listed for a person.
const shownWorkloads = 20

// unknown stands for a version that nobody has said.
const unknown = "unknown"

// Write prints a report for a person.
func Write(out *printer.Printer, report *Report) {
	rows := [][]printer.Cell{
		printer.Header("WHAT", "VERSION", "PODS", "IMAGE", "REMARK"),
		{printer.Text("plugin"), printer.Text(report.Plugin), {}, {}, {}},
	}
	for i := range report.Webhook {
		rows = append(rows, line("webhook", &report.Webhook[i]))
	}
	for i := range report.Agentlets {
		rows = append(rows, line("agentlet", &report.Agentlets[i]))
	}
	out.Table("", rows)
	if report.Unknown != "" {
		out.Line(printer.Cell{Text: "unknown: " + report.Unknown, Colour: printer.Yellow})
	}
	if len(report.Webhook) == 0 && report.Unknown == "" {
		out.Line(printer.Text("No webhook is installed."))
	}
	if len(report.Old) > 0 {
		out.Line()
		WriteOld(out, report)
	}
}

// WriteOld writes the commands that create the pods with another agentlet anew; nothing where there is none.
func WriteOld(out *printer.Printer, report *Report) {
	if len(report.Old) == 0 {
		return
	}
	pods := 0
	for i := range report.Old {
		pods += report.Old[i].Pods
	}
	out.Line(printer.Text(fmt.Sprintf("%s another agentlet than new pods get. To create them anew:", have(pods))))
	for i := range report.Old[:min(len(report.Old), shownWorkloads)] {
		out.Line(printer.Text("  " + report.Old[i].Command))
	}
	if more := len(report.Old) - shownWorkloads; more > 0 {
		out.Line(printer.Text(fmt.Sprintf("  and %d more: -o json has them all", more)))
	}
}

func have(pods int) string {
	if pods == 1 {
		return "1 pod has"
	}
	return fmt.Sprintf("%d pods have", pods)
}

func line(what string, r *Running) []printer.Cell {
	remark := printer.Cell{}
	switch {
	case r.Skew != "":
		remark = printer.Cell{Text: r.Skew, Colour: printer.Red}
	case r.New:
		remark = printer.Text("new pods get it")
	}
	return []printer.Cell{
		printer.Text(what), printer.Text(cmp.Or(r.Version, unknown)), printer.Text(strconv.Itoa(r.Pods)), printer.Text(r.Image), remark,
	}
}
