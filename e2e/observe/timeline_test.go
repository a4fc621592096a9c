package observe

import (
	"testing"
	"time"
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

func TestTimelineKeepsTheFirstTime(t *testing.T) {
	var told []Station
	timeline := NewTimeline(func(_ Life, s Station) { told = append(told, s) })
	start := time.Now()
	timeline.Pass("a", Admitted, start)
	timeline.Pass("a", Ready, start.Add(time.Second))
	timeline.Pass("a", Ready, start.Add(time.Minute))
	timeline.Pass("b", Admitted, start.Add(-time.Second))
	lives := timeline.Lives()
	if len(lives) != 2 || lives[0].UID != "b" {
		t.Fatalf("lives = %+v, want b and a", lives)
	}
	if took, ok := lives[1].Between(Admitted, Ready); !ok || took != time.Second {
		t.Errorf("Between = %s, %v, want 1s", took, ok)
	}
	if _, ok := lives[0].Between(Admitted, Ready); ok {
		t.Error("a station that was never passed has a time")
	}
	if spans := Spans(lives, Admitted, Ready); len(spans) != 1 || spans[0] != 1000 {
		t.Errorf("Spans = %v, want one of 1000 ms", spans)
	}
	if len(told) != 3 {
		t.Errorf("told %v, want each station once", told)
	}
}
