package observe

import (
	"slices"
	"strings"
	"testing"
)

func TestQuantile(t *testing.T) {
	ten := []float64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}
	for _, c := range []struct {
		values []float64
		q      float64
		want   float64
	}{{nil, 0.5, 0}, {[]float64{7}, 0.99, 7}, {ten, 0, 1}, {ten, 0.5, 5}, {ten, 0.9, 9}, {ten, 0.99, 10}, {ten, 1, 10}} {
		if got := Quantile(c.values, c.q); got != c.want {
			t.Errorf("Quantile(%v, %g) = %g, want %g", c.values, c.q, got, c.want)
		}
	}
}

func TestRatio(t *testing.T) {
	for name, c := range map[string]struct {
		values, over []float64
		q            float64
		want         float64
		err          string
	}{
		"medians":        {[]float64{30, 10, 20}, []float64{8, 2, 400}, 0.5, 2.5, ""},
		"slowest":        {[]float64{30, 10, 20}, []float64{8, 2, 400}, 1, 0.075, ""},
		"no values":      {nil, []float64{1}, 0.5, 0, "0 values over 1"},
		"nothing under":  {[]float64{1}, nil, 0.5, 0, "1 values over 0"},
		"over a zero":    {[]float64{1}, []float64{0}, 0.5, 0, "more than 0"},
		"a negative one": {[]float64{-4, -4}, []float64{2, 2}, 0.5, -2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Ratio(c.values, c.over, c.q)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("Ratio = %g, %v, want %g and an error with %q", got, err, c.want, c.err)
			}
		})
	}
}

func TestAdded(t *testing.T) {
	if got, err := Added([]float64{6, 5, 100}, []float64{4, 3, 1}); err != nil || got != 3 {
		t.Errorf("Added = %g, %v, want 3: of the medians", got, err)
	}
	for _, c := range [][2][]float64{{nil, {1}}, {{1}, nil}} {
		if got, err := Added(c[0], c[1]); err == nil {
			t.Errorf("Added(%v, %v) = %g without an error", c[0], c[1], got)
		}
	}
}

func TestSums(t *testing.T) {
	if got, err := Sums([]float64{1, 2}, []float64{10, 20}); err != nil || !slices.Equal(got, []float64{11, 22}) {
		t.Errorf("Sums = %v, %v, want 11 and 22", got, err)
	}
	if got, err := Sums([]float64{1}, nil); err == nil {
		t.Errorf("Sums of one and none = %v without an error", got)
	}
}

func TestGrowth(t *testing.T) {
	for name, c := range map[string]struct {
		bySize map[int]float64
		want   float64
		err    string
	}{
		"the ends count":        {map[int]float64{5000: 3, 500: 2, 1000: 100}, 1.5, ""},
		"smaller":               {map[int]float64{1: 4, 2: 1}, 0.25, ""},
		"one size":              {map[int]float64{1: 4}, 0, "1 sizes"},
		"none":                  {nil, 0, "0 sizes"},
		"nothing to begin with": {map[int]float64{1: 0, 2: 1}, 0, "0 at size 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Growth(c.bySize)
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("Growth = %g, %v, want %g and an error with %q", got, err, c.want, c.err)
			}
		})
	}
}
