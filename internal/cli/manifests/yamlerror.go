package manifests

import (
	"regexp"
	"strconv"
	"strings"
)

// yamlLine is where the YAML libraries name a line. Their errors are texts and have no field for it.
var yamlLine = regexp.MustCompile(`^(?:error converting YAML to JSON: )?(?:yaml: )?(?:line (\d{1,9}): )?`)

// yamlError reads an error of the YAML libraries. It is the one place that knows their words. It returns the line that the error
// names, 0 for none, and the error without it.
func yamlError(err error) (line int, text string) {
	text = strings.Join(strings.Fields(err.Error()), " ")
	found := yamlLine.FindStringSubmatch(text)
	line, _ = strconv.Atoi(found[1])
	return line, text[len(found[0]):]
}
