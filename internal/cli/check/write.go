package check

import (
	"fmt"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Write prints findings and their summary for a person.
func Write(out *printer.Printer, findings []Finding) {
	count := map[Level]int{}
	for _, f := range findings {
		count[f.Level]++
	}
	WriteFindings(out, findings)
	out.Line()
	out.Line(printer.Text(fmt.Sprintf("%d ok, %d skipped, %s, %s",
		count[OK], count[Skip], printer.Count(count[Warn], "warning"), printer.Count(count[Fail], "failure"))))
}

// WriteFindings prints findings alone.
func WriteFindings(out *printer.Printer, findings []Finding) {
	of := map[Level]printer.Colour{OK: printer.Green, Skip: printer.Faint, Warn: printer.Yellow, Fail: printer.Red}
	for _, f := range findings {
		text := f.Message
		if f.Subject != "" {
			text = f.Subject + ": " + text
		}
		level := printer.Cell{Text: fmt.Sprintf("%-4s", f.Level), Colour: of[f.Level]}
		out.Line(level, printer.Text(fmt.Sprintf("  %-10s  ", f.Check)), printer.Text(text))
		if f.Remedy != "" {
			out.Line(printer.Text("                  → "), printer.Text(f.Remedy))
		}
	}
}

// Report is what check finds, for programs.
type Report struct {
	printer.Type
	Result   Level     `json:"result"`
	Findings []Finding `json:"findings"`
}

// NewReport returns a report with findings and their worst level.
func NewReport(findings []Finding) Report {
	if findings == nil {
		findings = []Finding{}
	}
	return Report{printer.NewType("Check"), Worst(findings), findings}
}
