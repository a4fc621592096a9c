package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentlet/agentlet/internal/columns"
)

// World executes the steps on a cluster.
type World interface {
	// Do executes a step that begins or ends a fault, or that changes something. It describes what happened. ErrNothing means
	// that the step has no target.
	Do(ctx context.Context, step Step) (seen string, err error)
	// Settle waits until the invariants hold, within its own time limit, and describes the state. The error names the invariants
	// that don't hold.
	Settle(ctx context.Context) (seen string, err error)
	// Requests returns how many requests were sent so far; Failures those that failed since the last call.
	Requests() int64
	Failures() []Failure
}

// ErrNothing means that a step has no target, such as a pod on a node without pods.
var ErrNothing = errors.New("nothing to do it to")

// undoTimeout bounds the end of all faults after an interruption or a failure.
const undoTimeout = 3 * time.Minute

// Steps is a sequence of steps: a Walk, or a script.
type Steps interface{ Next() Step }

// Campaign takes steps until its duration is over.
type Campaign struct {
	Seed uint64
	// Duration is the time after which no further round begins.
	Duration time.Duration
	// Rate is the number of requests per second.
	Rate  int
	Steps Steps
	World World
	// Log gets a line for each step.
	Log func(line string)

	began  time.Time
	active []activeFault
	// spans are those of this round and of the previous one.
	spans, before []Span
	ends          []string // the faults and changes of this round that end pods
	report        Report
}

type activeFault struct {
	step  Step
	since time.Time
	span  int
}

// Row is a row of a report: the figures of one fault or change.
type Row struct {
	Name          string
	Times, Failed int
	// Quiet is the longest time until the next quiet moment.
	Quiet time.Duration
}

// Report is the result of a campaign.
type Report struct {
	Seed          uint64
	Steps, Rounds int
	Requests      int64
	Took          time.Duration
	Rows          []Row
}

// Run takes the steps. A failure ends the campaign and is returned. All faults are always undone, also if ctx ends early.
func (c *Campaign) Run(ctx context.Context) (report Report, err error) {
	c.began = time.Now()
	c.report.Seed = c.Seed
	defer func() {
		err = errors.Join(err, c.undo(ctx))
		c.report.Took, c.report.Requests = time.Since(c.began), c.World.Requests()
		report = c.report
	}()
	for {
		step := c.Steps.Next()
		c.report.Steps = step.Number
		if err := c.take(ctx, step); err != nil {
			return c.report, fmt.Errorf("seed %d, step %d, %s: %w", c.Seed, step.Number, step, err)
		}
		if step.Kind == Quiet && time.Since(c.began) >= c.Duration {
			return c.report, nil
		}
	}
}

func (c *Campaign) take(ctx context.Context, step Step) error {
	if err := sleep(ctx, step.Pause); err != nil {
		return err
	}
	if step.Kind == Quiet {
		return c.settle(ctx, step)
	}
	index := slices.IndexFunc(c.active, func(a activeFault) bool { return a.step.Name == step.Name && a.step.Node == step.Node })
	if step.Kind == End {
		if index < 0 { // the step had no target
			return nil
		}
		if err := sleep(ctx, time.Until(c.active[index].since.Add(step.For))); err != nil {
			return err
		}
	}
	began := time.Now()
	if step.Kind == Begin {
		// Record the fault before it begins, so that it is undone even if its begin fails half-way.
		c.spans = append(c.spans, Span{Fault: step.Name, Begin: began, End: began})
		if fault, _ := FaultNamed(step.Name); fault.Lasts() {
			c.active = append(c.active, activeFault{step, began, len(c.spans) - 1})
		}
	}
	seen, err := c.World.Do(ctx, step)
	nothing := errors.Is(err, ErrNothing)
	if nothing {
		seen, err = ErrNothing.Error(), nil
	}
	c.log(step, began, seen, err)
	if err != nil {
		return err
	}
	c.done(step, index, began, nothing)
	return nil
}

// done records a finished step.
func (c *Campaign) done(step Step, index int, began time.Time, nothing bool) {
	now := time.Now()
	switch step.Kind {
	case Begin:
		fault, _ := FaultNamed(step.Name)
		if nothing {
			c.active = slices.DeleteFunc(c.active, func(a activeFault) bool { return a.span == len(c.spans)-1 })
			c.spans = c.spans[:len(c.spans)-1]
			return
		}
		c.spans[len(c.spans)-1].End = now
		if fault.Ends {
			c.ends = append(c.ends, step.Name)
		}
	case End:
		c.spans[c.active[index].span].End = now
		c.active = slices.Delete(c.active, index, index+1)
		return
	default:
		if nothing {
			return
		}
		c.spans = append(c.spans, Span{Fault: step.Name, Begin: began, End: now})
		if change, _ := ChangeNamed(step.Name); change.Ends {
			c.ends = append(c.ends, step.Name)
		}
	}
	c.row(step.Name).Times++
}

// settle waits for a quiet moment, and judges the round's failed requests.
func (c *Campaign) settle(ctx context.Context, step Step) error {
	began := time.Now()
	seen, err := c.World.Settle(ctx)
	took := time.Since(began)
	failures := c.World.Failures()
	for i := range c.spans {
		others := slices.DeleteFunc(slices.Clone(c.ends), func(name string) bool { return name == c.spans[i].Fault })
		c.spans[i].Ending = len(others) > 0
		row := c.row(c.spans[i].Fault)
		row.Quiet = max(row.Quiet, took)
	}
	judgement := Judge(slices.Concat(c.spans, c.before), failures, c.Rate)
	for name, failed := range judgement.Failed {
		c.row(name).Failed += failed
	}
	if len(judgement.Violations) > 0 {
		err = errors.Join(err, errors.New(strings.Join(judgement.Violations, "\n")))
	}
	seen += fmt.Sprintf("; %d requests failed; quiet after %s", len(failures), took.Round(100*time.Millisecond))
	c.log(step, began, seen, err)
	c.report.Rounds++
	c.before, c.spans, c.ends = c.spans, nil, nil
	return err
}

// undo ends every fault, even if ctx has ended.
func (c *Campaign) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	var errs []error
	for _, a := range slices.Backward(c.active) {
		a.step.Kind = End
		began := time.Now()
		seen, err := c.World.Do(ctx, a.step)
		c.log(a.step, began, "undone: "+seen, err)
		if err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", a.step.Name, err))
		}
	}
	c.active = nil
	return errors.Join(errs...)
}

func (c *Campaign) log(step Step, began time.Time, seen string, err error) {
	if err != nil {
		seen = strings.TrimPrefix(seen+"; FAILED: "+err.Error(), "; ")
	}
	c.Log(
		fmt.Sprintf(
			"%s seed %d, step %d, round %d, %s of %s: %s: %s (%s)",
			began.Format("15:04:05.000"),
			c.Seed,
			step.Number,
			step.Round,
			began.Sub(c.began).Round(time.Second),
			c.Duration,
			step,
			seen,
			time.Since(began).Round(time.Millisecond),
		),
	)
}

func (c *Campaign) row(name string) *Row {
	i := slices.IndexFunc(c.report.Rows, func(r Row) bool { return r.Name == name })
	if i < 0 {
		c.report.Rows = append(c.report.Rows, Row{Name: name})
		i = len(c.report.Rows) - 1
	}
	return &c.report.Rows[i]
}

// Table formats the report: a heading, a line for each fault and change that happened, in the order of the tables, and a total.
func (r Report) Table() []string {
	table := [][]string{{"fault or change", "times", "failed", "until quiet"}}
	var order []string
	for _, fault := range faults {
		order = append(order, fault.Name)
	}
	for _, change := range changes {
		order = append(order, change.Name)
	}
	rows := slices.Clone(r.Rows)
	slices.SortFunc(rows, func(a, b Row) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
	times, failed := 0, 0
	for _, row := range rows {
		table = append(table,
			[]string{row.Name, strconv.Itoa(row.Times), strconv.Itoa(row.Failed), row.Quiet.Round(100 * time.Millisecond).String()})
		times, failed = times+row.Times, failed+row.Failed
	}
	return append(
		columns.Align(table, 1, nil),
		fmt.Sprintf("seed %d: %d faults and changes in %d steps and %d rounds, %s; %d of %d requests failed where a fault allows it",
			r.Seed, times, r.Steps, r.Rounds, r.Took.Round(time.Second), failed, r.Requests),
	)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
