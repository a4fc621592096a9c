package figures

import "testing"

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1890: "1,890", 1234567: "1,234,567", -1500: "-1,500"} {
		if got := Thousands(n); got != want {
			t.Errorf("Thousands(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	for value, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 1.526: "1.53", 1.2: "1.2", 12.34: "12.3", 99.94: "99.9", 99.96: "100", 999.6: "1000",
		1234.5: "1234", 98765: "98765", -1234.7: "-1235",
	} {
		if got := Number(value); got != want {
			t.Errorf("Number(%g) = %s, want %s", value, got, want)
		}
	}
}
