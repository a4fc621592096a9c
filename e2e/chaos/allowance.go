package chaos

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Allowance defines how many requests may fail because of a fault, and when. The zero value allows none.
type Allowance struct {
	// FromBegin is a time after the fault's begin in which requests may fail. Throughout extends it to the fault's end.
	FromBegin  time.Duration
	Throughout bool
	// FromEnd is a time after the fault's end in which requests may fail.
	FromEnd time.Duration
	// Share is the share of the requests in these times that may fail, 0 to 1.
	Share float64
	// Ended excludes requests to pods that have ended from the count, because their number depends on how many pods have ended.
	Ended bool
}

func (a Allowance) String() string {
	if a.Share == 0 {
		return "none"
	}
	var when []string
	if a.FromBegin > 0 {
		when = append(when, fmt.Sprintf("for %s from its begin", seconds(a.FromBegin)))
	}
	if a.Throughout {
		when = append(when, "until its end")
	}
	if a.FromEnd > 0 {
		when = append(when, fmt.Sprintf("for %s from its end", seconds(a.FromEnd)))
	}
	share := fmt.Sprintf("%.0f%% ", a.Share*100)
	if a.Ended {
		share = "all to ended pods, and " + share + "of all "
	}
	return share + strings.Join(when, " and ")
}

// window is a time in which requests may fail.
type window struct{ from, to time.Time }

func (w window) has(f Failure) bool { return !f.Ended.Before(w.from) && !f.Began.After(w.to) }

// Span is the time of a past fault.
type Span struct {
	Fault      string
	Begin, End time.Time
	// Ending is set if pods were ended during the fault, or shortly before.
	Ending bool
}

// allowed returns the windows in which requests may fail because of the fault, and the maximum number of failures at a rate.
func (s Span) allowed(a Allowance, rate int) (windows []window, most int) {
	if a.Share == 0 {
		return nil, 0
	}
	switch {
	case a.Throughout:
		windows = append(windows, window{s.Begin, s.End.Add(a.FromEnd)})
	case a.FromBegin > 0:
		windows = append(windows, window{s.Begin, s.Begin.Add(a.FromBegin)})
	}
	if !a.Throughout && a.FromEnd > 0 {
		windows = append(windows, window{s.End, s.End.Add(a.FromEnd)})
	}
	total := time.Duration(0)
	for _, w := range windows {
		total += w.to.Sub(w.from)
	}
	return windows, int(math.Ceil(a.Share * total.Seconds() * float64(rate)))
}

// Failure is a request that failed.
type Failure struct {
	Began, Ended    time.Time
	Instance, Error string
	// PodEnded is set if the instance's pod had ended, or was ending.
	PodEnded bool
}

func (f Failure) String() string {
	return fmt.Sprintf("%s +%s to %s: %s", f.Began.Format("15:04:05.000"), f.Ended.Sub(f.Began).Round(time.Millisecond),
		f.Instance, f.Error)
}

// Judgement is the assessment of the failed requests.
type Judgement struct {
	// Failed counts the failures by the fault that allows them.
	Failed map[string]int
	// Violations are failures that no fault allows, and faults with more failures than they allow.
	Violations []string
}

// mostViolations limits how many violations a judgement lists.
const mostViolations = 20

// Judge assigns each failure to the first fault that allows it.
func Judge(spans []Span, failures []Failure, rate int) Judgement {
	j := Judgement{Failed: map[string]int{}}
	counted := make([][]Failure, len(spans))
	unexplained := 0
	for _, failure := range failures {
		i := slices.IndexFunc(spans, func(s Span) bool {
			windows, _ := s.allowed(s.allowance(), rate)
			return slices.ContainsFunc(windows, func(w window) bool { return w.has(failure) })
		})
		if i >= 0 {
			if !failure.PodEnded || !spans[i].allowance().Ended {
				counted[i] = append(counted[i], failure)
			}
			j.Failed[spans[i].Fault]++
			continue
		}
		if unexplained++; unexplained <= mostViolations {
			j.Violations = append(j.Violations, "a request failed that no fault allows to: "+failure.String())
		}
	}
	if unexplained > mostViolations {
		j.Violations = append(j.Violations, fmt.Sprintf("… and %d more", unexplained-mostViolations))
	}
	for i, span := range spans {
		if _, most := span.allowed(span.allowance(), rate); len(counted[i]) > most {
			j.Violations = append(j.Violations, fmt.Sprintf("%d requests failed because of %q, which allows %d: %s",
				len(counted[i]), span.Fault, most, summary(counted[i])))
		}
	}
	return j
}

// summary counts failures by instance.
func summary(failures []Failure) string {
	var instances []string
	count, first, last := map[string]int{}, map[string]time.Time{}, map[string]time.Time{}
	for _, f := range failures {
		if count[f.Instance]++; count[f.Instance] == 1 {
			instances, first[f.Instance] = append(instances, f.Instance), f.Began
		}
		last[f.Instance] = f.Ended
	}
	for i, instance := range instances {
		instances[i] = fmt.Sprintf("%d to %s, %s to %s", count[instance], instance,
			first[instance].Format("15:04:05.0"), last[instance].Format("15:04:05.0"))
	}
	return strings.Join(instances, "; ")
}

// allowance returns the allowance of the span's fault or change.
func (s Span) allowance() Allowance {
	if fault, ok := FaultNamed(s.Fault); ok {
		if s.Ending && fault.MayEnding.Share > 0 {
			return fault.MayEnding
		}
		return fault.May
	}
	change, _ := ChangeNamed(s.Fault)
	return change.May
}
