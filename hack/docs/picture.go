package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html"
	"strings"
)

// life is the life of one pod, as the demo has measured it.
type life struct {
	Birth []passage `json:"birth"` // milliseconds since admission
	Death []passage `json:"death"` // milliseconds since deletion
}

type passage struct {
	Station string `json:"station"`
	MS      int    `json:"ms"`
}

// Stations at which the picture's bars begin and end.
const (
	admitted = "admitted"
	ready    = "containers ready"
	catalog  = "in the catalog"
	podReady = "Ready"
	deleted  = "deleted"
	dropped  = "out of the catalog"
	sigterm  = "SIGTERM"
	gone     = "gone"
)

func parseLife(data []byte) (life, error) {
	var l life
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return life{}, err
	}
	places := l.places()
	for _, station := range []string{admitted, ready, catalog, podReady, deleted, dropped, sigterm, gone} {
		if places[station] == 0 {
			return life{}, fmt.Errorf("no station %q", station)
		}
	}
	return l, nil
}

// Sizes in the picture, in pixels. Stations have equal distances: to scale, a wait of five milliseconds beside one of five
// seconds would be invisible.
const (
	width, height = 980, 344
	firstX        = 168 // of the first station
	stepX         = 78
	pauseX        = 52 // the life between birth and death
	topY          = 66 // of the first bar
	laneY         = 44
	barHeight     = 24
)

// places returns the stations' x coordinates.
func (l life) places() map[string]int {
	places := map[string]int{}
	x := firstX
	for _, p := range l.Birth {
		places[p.Station] = x
		x += stepX
	}
	x += pauseX
	for _, p := range l.Death {
		places[p.Station] = x
		x += stepX
	}
	return places
}

// theme holds a picture's colours.
type theme struct{ text, faint, line, app, agentlet, consul, kube string }

var (
	light = theme{"#1f2328", "#59636e", "#d1d9e0", "#0969da", "#8250df", "#bf3989", "#1a7f37"}
	dark  = theme{"#f0f6fc", "#9198a1", "#3d444d", "#4493f8", "#ab7df8", "#db61a2", "#3fb950"}
)

// bar is a bar of a lane, from one x to another. faded is set if the thing is not yet, or no longer, in effect.
type bar struct {
	from, to int
	faded    bool
	text     string
}

type lane struct {
	title, colour string
	bars          []bar
}

func (l life) lanes(t theme) []lane {
	at := l.places()
	const soon = stepX / 3 // a container starts some time after the admission
	return []lane{
		{"agentlet", t.agentlet, []bar{{at[admitted] + soon/2, at[gone] - soon/2, false, "starts first, ends last"}}},
		{"application", t.app, []bar{
			{at[admitted] + soon, at[ready], true, "starts"},
			{at[ready], at[deleted], false, "serves"},
			{at[deleted], at[sigterm], true, "SIGTERM is held"},
		}},
		{"in Consul's catalog", t.consul, []bar{{at[catalog], at[dropped], false, "passing"}}},
		{"pod is Ready", t.kube, []bar{{at[podReady], at[deleted], false, "Ready"}}},
		{"clients' requests", t.faint, []bar{
			{at[catalog], at[dropped], false, "sent where Consul says"},
			{at[dropped], at[sigterm], true, "drain-delay"},
		}},
	}
}

// draw returns the picture as SVG.
func draw(l life, t theme) string {
	var svg strings.Builder
	fmt.Fprintf(
		&svg,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="A pod's life" `+
			`font-family="-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		width,
		height,
		width,
		height,
	)
	at, bottom := l.places(), topY+laneY*len(l.lanes(t))
	for _, part := range []struct {
		passages []passage
		since    string
	}{{l.Birth, "ms since admission"}, {l.Death, "ms since deletion"}} {
		for _, p := range part.passages {
			x := at[p.Station]
			label(&svg, x, p.Station, t.text)
			fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-dasharray="3 3"/>`+"\n", x, topY-16, x, bottom,
				t.line)
			text(&svg, x, bottom+18, "middle", t.text, fmt.Sprint(p.MS))
		}
		first, last := at[part.passages[0].Station], at[part.passages[len(part.passages)-1].Station]
		fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`+"\n", first, bottom+28, last, bottom+28, t.line)
		text(&svg, (first+last)/2, bottom+46, "middle", t.faint, part.since)
	}
	for i, lane := range l.lanes(t) {
		y := topY + laneY*i
		text(&svg, firstX-32, y+16, "end", t.text, lane.title)
		for _, b := range lane.bars {
			opacity := 0.85
			if b.faded {
				opacity = 0.25
			}
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" fill-opacity="%.2f"/>`+"\n",
				b.from, y, b.to-b.from, barHeight, lane.colour, opacity)
			colour := "#ffffff"
			if b.faded {
				colour = t.text
			}
			text(&svg, (b.from+b.to)/2, y+16, "middle", colour, b.text)
		}
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

// label writes a station's name above its line, in two lines if it is long.
func label(svg *strings.Builder, x int, station, colour string) {
	lines := []string{station}
	if i := strings.LastIndexByte(station, ' '); len(station) > 9 && i > 0 {
		lines = []string{station[:i], station[i+1:]}
	}
	for i, line := range lines {
		text(svg, x, topY-22-15*(len(lines)-1-i), "middle", colour, line)
	}
}

func text(svg *strings.Builder, x, y int, anchor, colour, content string) {
	fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour,
		html.EscapeString(content))
}
