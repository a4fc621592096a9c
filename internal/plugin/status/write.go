package status

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/plugin/table"
)

// Write writes rows as a table, with the namespaces if they differ.
func Write(out io.Writer, rows []Row, namespaces, colours bool) error {
	if len(rows) == 0 {
		where := "here"
		if !namespaces {
			where = "in this namespace (-n names another, -A all)"
		}
		_, err := fmt.Fprintf(out, "No pod %s has an agentlet. kubectl agentlet check says which should have one.\n", where)
		return err
	}
	header := table.Header("NAMESPACE", "POD", "GATE", "REASON", "SERVICE", "ADDRESS", "CONSUL", "OPENED", "NODE", "DRIFT")
	lines := [][]table.Cell{header}
	for _, row := range rows {
		opened := ""
		if row.Gate == "open" {
			opened = (time.Duration(row.OpenedSeconds) * time.Second).String()
		}
		lines = append(lines, []table.Cell{
			table.Text(row.Namespace),
			{Text: row.Pod, Colour: table.Bold},
			{Text: row.Gate, Colour: gateColour(row.Gate)},
			table.Text(string(row.Reason)),
			table.Text(row.Service), table.Text(row.Address),
			{Text: row.Consul, Colour: healthColour(row.Consul)},
			table.Text(opened), table.Text(row.Node),
			{Text: row.Drift, Colour: table.Yellow},
		})
	}
	if !namespaces {
		for i := range lines {
			lines[i] = lines[i][1:]
		}
	}
	return table.Write(out, "", colours, lines)
}

func gateColour(gate string) table.Colour {
	switch gate {
	case "open":
		return table.Green
	case "closed":
		return table.Yellow
	}
	return table.Plain
}

func healthColour(health string) table.Colour {
	switch contract.Health(health) {
	case contract.Passing:
		return table.Green
	case contract.Warning:
		return table.Yellow
	case contract.Critical:
		return table.Red
	}
	return table.Plain
}

// WriteJSON writes rows as a JSON list.
func WriteJSON(out io.Writer, rows []Row) error {
	if rows == nil {
		rows = []Row{}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(rows); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}
