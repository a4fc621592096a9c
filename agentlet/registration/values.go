package registration

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// maxDuration bounds every duration: more is a slip of the unit, and a timer that nobody would live to see.
const maxDuration = 24 * time.Hour

var errEmptyItem = errors.New("one of the items is empty")

// splitList splits at commas and trims spaces; `\,` is a comma that doesn't split, any other backslash is itself, so that no
// item ends in one before another. An empty text is an empty list; an empty item is an error, and so are more than
// maxItems commas.
func splitList(text string) ([]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	if err := checkCount(strings.Count(text, ",")+1, maxItems, "items"); err != nil {
		return nil, err
	}
	items := make([]string, 0, strings.Count(text, ",")+1)
	for start, i := 0, 0; i <= len(text); i++ {
		if i < len(text) && (text[i] != ',' || (i > start && text[i-1] == '\\')) {
			continue
		}
		item := strings.TrimSpace(strings.ReplaceAll(text[start:i], `\,`, ","))
		if item == "" {
			return nil, errEmptyItem
		}
		if err := checkText(item); err != nil {
			return nil, err
		}
		items = append(items, item)
		start = i + 1
	}
	return items, nil
}

// parseDuration parses a duration between least and most.
func parseDuration(text string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	switch {
	case err != nil:
		return 0, errForm
	case d < least:
		return 0, fmt.Errorf("it is less than %s", short(least))
	case d > most:
		return 0, fmt.Errorf("it is more than %s", short(most))
	}
	return d, nil
}

// short prints a duration as people write it: 1m, not 1m0s.
func short(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// parseOneOf parses one of a few words.
func parseOneOf[T ~string](text string, allowed ...T) (T, error) {
	word := T(strings.TrimSpace(text))
	if !slices.Contains(allowed, word) {
		return "", errForm
	}
	return word, nil
}

func parseHealth(text string) (contract.Health, error) {
	return parseOneOf(text, contract.Passing, contract.Warning, contract.Critical)
}

func parseBool(text string) (bool, error) {
	word, err := parseOneOf(text, "true", "false")
	return word == "true", err
}

// parsePort parses a port number. It takes plain decimal only: no sign, no leading zero.
func parsePort(text string) (int, error) {
	text = strings.TrimSpace(text)
	if !isNumber(text) || text[0] == '0' {
		return 0, errForm
	}
	port, err := strconv.Atoi(text)
	if err != nil || port > 65535 {
		return 0, errForm
	}
	return port, nil
}

// isNumber reports whether text is digits only.
func isNumber(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// isPortName reports whether a container could declare a port of this name.
func isPortName(text string) bool {
	return len(validation.IsValidPortName(strings.TrimSpace(text))) == 0
}

// quantityPattern is the part of Kubernetes' quantities that a container's resources need. Its other forms, with an
// exponent, take time and memory by the power of ten that they name.
var quantityPattern = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,9})?(m|k|M|G|Ki|Mi|Gi)?$`)

// parseQuantity parses a resource quantity of at least least, or zero.
func parseQuantity(text string, least resource.Quantity) (*resource.Quantity, error) {
	text = strings.TrimSpace(text)
	if !quantityPattern.MatchString(text) {
		return nil, errForm
	}
	q, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return nil, errForm
	case q.Sign() > 0 && q.Cmp(least) < 0:
		return nil, fmt.Errorf("it is less than %s", least.String())
	}
	return &q, nil
}
