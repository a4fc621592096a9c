package figures

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// MergeRow adds a row to a Markdown table in a file. It replaces an older row with the same first cell, and keeps the rows sorted
// by that cell. columns are the table's heading; a file with another heading is overwritten.
func MergeRow(file string, columns []string, cells ...string) error {
	if len(cells) != len(columns) || len(cells) == 0 {
		return fmt.Errorf("merge row: %d cells for %d columns", len(cells), len(columns))
	}
	mu.Lock()
	defer mu.Unlock()
	head := line(columns)
	rows := map[string]string{}
	content, err := read(file)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(content)), "\n")
	if lines[0] == strings.TrimSpace(head) && len(lines) > 2 {
		for _, row := range lines[2:] {
			rows[strings.SplitN(row, "|", 3)[1]] = row + "\n"
		}
	}
	row := line(cells)
	rows[strings.SplitN(row, "|", 3)[1]] = row
	var table strings.Builder
	table.WriteString(head + strings.Repeat("|---", len(columns)) + "|\n")
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		table.WriteString(rows[key])
	}
	if err := os.WriteFile(file, []byte(table.String()), 0o600); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

// line formats a line of a Markdown table. It replaces characters that would end a cell.
func line(cells []string) string {
	escape := strings.NewReplacer("|", `\|`, "\n", " ")
	escaped := make([]string, len(cells))
	for i, cell := range cells {
		escaped[i] = escape.Replace(cell)
	}
	return "| " + strings.Join(escaped, " | ") + " |\n"
}
