package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/agentlet/agentlet/hack/bench"
)

// benchmarksFile contains the figures of the run that the docs show, with the machine and the date.
const benchmarksFile = "docs/benchmarks.json"

// The picture of the time that each step of a pod's life takes.
const (
	lightSpans = "docs/images/spans-light.svg"
	darkSpans  = "docs/images/spans-dark.svg"
)

// benchmarks are the measured figures, with their date and machine.
type benchmarks struct {
	Date    string             `json:"date"`
	Machine string             `json:"machine"`
	Figures map[string]float64 `json:"figures"`
	// Earlier has figures that were not measured again since. Parsing adds them to Figures.
	Earlier *benchmarks `json:"earlier,omitempty"`
	// older are those of Figures that Earlier has added.
	older map[string]bool
}

func parseBenchmarks(data []byte) (benchmarks, error) {
	var b benchmarks
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b); err != nil {
		return benchmarks{}, err
	}
	b.older = map[string]bool{}
	for _, run := range []*benchmarks{&b, b.Earlier} {
		if run != nil && (run.Date == "" || run.Machine == "" || len(run.Figures) == 0) {
			return benchmarks{}, fmt.Errorf("date %q, machine %q and %d figures: want all three", run.Date, run.Machine, len(run.Figures))
		}
	}
	if b.Earlier != nil {
		for name, figure := range b.Earlier.Figures {
			if _, again := b.Figures[name]; !again {
				b.Figures[name], b.older[name] = figure, true
			}
		}
	}
	return b, nil
}

// legend says when and where the figures of a table were measured. What the description of an earlier machine
// repeats is left out.
func (b benchmarks) legend(older bool) string {
	legend := fmt.Sprintf("\nMeasured on %s, %s. Bold: misses the target.\n", b.Date, b.Machine)
	if older {
		legend += fmt.Sprintf("†: on %s, %s.\n", b.Earlier.Date, unlike(b.Earlier.Machine, b.Machine))
	}
	return legend
}

// unlike returns a description without the beginning that it shares with an earlier one. Both go on, or end, after it.
func unlike(description, earlier string) string {
	same := 0
	for same < min(len(description), len(earlier)) && description[same] == earlier[same] {
		same++
	}
	pauses := func(text string) bool { return same == len(text) || text[same] == ',' || text[same] == ';' }
	if same == 0 || !pauses(description) || !pauses(earlier) {
		return description
	}
	return "as above" + description[same:]
}

// segment is a part of a pod's start or end, from one station to the next: the figure's name, and the component that takes the
// time.
type segment struct {
	figure, text string
	whose        func(theme) string
}

func ofKube(t theme) string     { return t.kube }
func ofAgentlet(t theme) string { return t.agentlet }
func ofApp(t theme) string      { return t.app }

// Stations of both bars, in order.
var (
	birthSegments = []segment{
		{bench.SpanStart, "kubelet: pulls, starts, probes", ofKube},
		{bench.SpanPassing, "agentlet and Consul: in the catalog", ofAgentlet},
		{bench.SpanGate, "agentlet: gate", ofAgentlet},
		{bench.SpanReady, "kubelet: marks the pod Ready", ofKube},
	}
	deathSegments = []segment{
		{bench.SpanGone, "agentlet and Consul: out of the catalog", ofAgentlet},
		{bench.SpanDelay, "drain-delay: clients hear of it", ofApp},
		{bench.SpanEnd, "kubelet: SIGTERM, and the pod's end", ofKube},
	}
)

// Sizes in the picture of spans, in pixels. The segments are to scale, but have a minimum width.
const (
	spansWidth, spansHeight = 980, 250
	spansX, spansBar        = 90, 26
	narrowest               = 3
)

// drawSpans draws a pod's start and end to scale, each with its legend.
func (b benchmarks) drawSpans(t theme) string {
	var svg strings.Builder
	fmt.Fprintf(
		&svg,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
			`aria-label="Where a pod's milliseconds go" `+
			`font-family="-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		spansWidth,
		spansHeight,
		spansWidth,
		spansHeight,
	)
	y := 24
	for _, part := range []struct {
		title    string
		segments []segment
	}{{"start", birthSegments}, {"end", deathSegments}} {
		total := 0.0
		for _, s := range part.segments {
			total += b.Figures[s.figure]
		}
		text(&svg, spansX-14, y+17, "end", t.text, part.title)
		x, legend := float64(spansX), y+spansBar+18
		for _, s := range part.segments {
			ms := b.Figures[s.figure]
			wide := max(ms/max(total, 1)*(spansWidth-spansX-20), narrowest)
			fmt.Fprintf(&svg, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" fill-opacity="0.85"/>`+"\n", x, y, wide,
				spansBar, s.whose(t))
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="10" height="10" fill="%s" fill-opacity="0.85"/>`+"\n", spansX, legend-9,
				s.whose(t))
			text(&svg, spansX+16, legend, "start", t.text, fmt.Sprintf("%.0f ms  %s", ms, s.text))
			x += wide
			legend += 17
		}
		y = legend + 10
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}
