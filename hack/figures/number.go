package figures

import (
	"math"
	"strconv"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Thousands formats a whole number with a comma between each three digits: 1,234,567.
func Thousands(n int) string { return message.NewPrinter(language.English).Sprintf("%d", n) }

// Number formats a value with three significant digits, and with all digits before the point: 0.0123, 1.53, 1235.
func Number(value float64) string {
	if value == math.Trunc(value) || math.Abs(value) >= 99.95 {
		return strconv.FormatFloat(value, 'f', 0, 64)
	}
	return strconv.FormatFloat(value, 'g', 3, 64)
}
