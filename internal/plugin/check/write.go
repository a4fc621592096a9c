package check

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/agentlet/agentlet/internal/plugin/table"
)

// Write writes findings for a person, and the sum of them.
func Write(out io.Writer, findings []Finding, colours bool) error {
	of := map[Level]table.Colour{OK: table.Green, Skip: table.Faint, Warn: table.Yellow, Fail: table.Red}
	count := map[Level]int{}
	for _, f := range findings {
		count[f.Level]++
		text := f.Message
		if f.Subject != "" {
			text = f.Subject + ": " + text
		}
		level := table.Cell{Text: fmt.Sprintf("%-4s", f.Level), Colour: of[f.Level]}.Paint(colours)
		if _, err := fmt.Fprintf(out, "%s  %-10s  %s\n", level, f.Check, text); err != nil {
			return fmt.Errorf("write findings: %w", err)
		}
		if f.Remedy != "" {
			fmt.Fprintf(out, "                  → %s\n", f.Remedy)
		}
	}
	_, err := fmt.Fprintf(out, "\n%d ok, %d skipped, %s, %s\n", count[OK], count[Skip], table.Count(count[Warn], "warning"), table.Count(count[Fail], "failure"))
	return err
}

// WriteJSON writes findings and their worst level as JSON.
func WriteJSON(out io.Writer, findings []Finding) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Result   Level     `json:"result"`
		Findings []Finding `json:"findings"`
	}{Worst(findings), findings})
	if err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	return nil
}
