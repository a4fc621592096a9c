package manifests

import (
	"regexp"
	"strconv"
	"strings"
)

// yamlLine is where the YAML library names a line. Its errors are texts and have no field for it. What they quote of a document
// has no line breaks.
var yamlLine = regexp.MustCompile(`(?m)(^ *line |yaml: line | at line )(\d+)(:|$)`)

// oneLine puts the library's list of errors on one line.
var oneLine = strings.NewReplacer("\n ", "", "\n", " ")

// yamlError reads an error of the YAML library about a text that begins at the line first of its file. It is the one place that
// knows the library's words. It returns the line in the file, or first where the error names none, and the error in the lines
// of the file.
func yamlError(err error, first int) (line int, text string) {
	text = yamlLine.ReplaceAllStringFunc(err.Error(), func(named string) string {
		parts := yamlLine.FindStringSubmatch(named)
		n, err := strconv.Atoi(parts[2])
		if err != nil {
			return named
		}
		n += first - 1
		if line == 0 {
			line = n
		}
		return parts[1] + strconv.Itoa(n) + parts[3]
	})
	if line == 0 {
		line = first
	}
	return line, oneLine.Replace(strings.TrimPrefix(text, "yaml: "))
}
