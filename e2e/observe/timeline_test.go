package observe

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

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

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		timeline := NewTimeline(nil)
		begun := time.Now()
		timeline.Pass("a", Admitted, begun)
		go func() {
			for _, station := range []Station{GateOpen, Ready, Deleted} {
				time.Sleep(time.Second)
				timeline.Pass("b", station, time.Now())
				timeline.Pass("a", station, time.Now())
			}
		}()
		life, err := timeline.Await(t.Context(), "a", Admitted, Ready)
		if took, ok := life.Between(Admitted, Ready); err != nil || !ok || took != 2*time.Second {
			t.Errorf("Await = %+v, %v, want a life with Ready after 2s", life, err)
		}
		if waited := time.Since(begun); waited != 2*time.Second {
			t.Errorf("waited %s, want until the last of the stations, 2s", waited)
		}
		bounded, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := timeline.Await(bounded, "c", Ready); err == nil || !strings.Contains(err.Error(), `["Ready"]`) {
			t.Errorf("a pod that never came gave %v, want an error with the station", err)
		}
	})
}

func TestAllPassed(t *testing.T) {
	ready := Life{At: map[Station]time.Time{Ready: {}, InCatalog: {}}}
	gone := Life{At: map[Station]time.Time{Ready: {}, Gone: {}}}
	for name, test := range map[string]struct {
		lives []Life
		want  bool
	}{
		"no life":             {nil, true},
		"both stations":       {[]Life{ready}, true},
		"one lacks a station": {[]Life{ready, gone}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := AllPassed(test.lives, Ready, InCatalog); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}
