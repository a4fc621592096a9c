package observe

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Milliseconds converts a duration to milliseconds.
func Milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Spans returns the times in milliseconds between two stations, of all lives that have both.
func Spans(lives []Life, from, to Station) []float64 {
	var spans []float64
	for _, life := range lives {
		if took, ok := life.Between(from, to); ok {
			spans = append(spans, Milliseconds(took))
		}
	}
	return spans
}

// Quantile returns a quantile of values by the nearest rank, with q from 0 to 1, and 0 for no values.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(q*float64(len(sorted))+0.9999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Ratio divides a quantile of values by the same quantile of others. If q is near 0 or 1, use as many values on both sides: the
// extreme of few values is nearer to the median.
func Ratio(values, over []float64, q float64) (float64, error) {
	base := Quantile(over, q)
	if len(values) == 0 || base <= 0 {
		return 0, fmt.Errorf("ratio of quantile %g: %d values over %d, whose quantile is %g: want values, and more than 0 under them",
			q, len(values), len(over), base)
	}
	return Quantile(values, q) / base, nil
}

// Added returns the difference of two medians: that of values minus that of the others.
func Added(values, than []float64) (float64, error) {
	if len(values) == 0 || len(than) == 0 {
		return 0, fmt.Errorf("difference of medians: %d values and %d: want both", len(values), len(than))
	}
	return Quantile(values, 0.5) - Quantile(than, 0.5), nil
}

// Sums adds the values of two series pairwise.
func Sums(a, b []float64) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("sums: %d values and %d: want as many", len(a), len(b))
	}
	sums := make([]float64, len(a))
	for i := range a {
		sums[i] = a[i] + b[i]
	}
	return sums, nil
}

// Growth is the value at the largest size over that at the smallest.
func Growth(bySize map[int]float64) (float64, error) {
	if len(bySize) < 2 {
		return 0, fmt.Errorf("growth: %d sizes: want two", len(bySize))
	}
	sizes := slices.Sorted(maps.Keys(bySize))
	smallest, largest := sizes[0], sizes[len(sizes)-1]
	if bySize[smallest] <= 0 {
		return 0, fmt.Errorf("growth: %g at size %d: want more than 0", bySize[smallest], smallest)
	}
	return bySize[largest] / bySize[smallest], nil
}
