package docs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// The map of the components: its definition, and the pictures.
const (
	mapFile  = "docs/images/map.json"
	lightMap = "docs/images/map-light.svg"
	darkMap  = "docs/images/map-dark.svg"
)

// diagram is a picture of boxes and arrows, in pixels.
type diagram struct {
	Width  int     `json:"width"`
	Height int     `json:"height"`
	Boxes  []box   `json:"boxes"`
	Arrows []arrow `json:"arrows"`
}

type box struct {
	X     int      `json:"x"`
	Y     int      `json:"y"`
	W     int      `json:"w"`
	H     int      `json:"h"`
	Title string   `json:"title"`
	Text  []string `json:"text"`
	Kind  string   `json:"kind"` // of theme.of, or frame
}

type arrow struct {
	From   [2]int `json:"from"`
	To     [2]int `json:"to"`
	Text   string `json:"text"`
	At     [2]int `json:"at"`     // the text's position
	Anchor string `json:"anchor"` // the text's; default: middle
	Dashed bool   `json:"dashed"` // only on request
}

// frame is the kind of a box that contains others.
const frame = "frame"

// of returns the colour of a kind of boxes.
func (t theme) of(kind string) (colour string, ok bool) {
	colour, ok = map[string]string{
		"kube": t.kube, "agentlet": t.agentlet, "app": t.app, "consul": t.consul, "other": t.faint, frame: t.line,
	}[kind]
	return colour, ok
}

// parseDiagram rejects a kind without a colour, and shapes outside the picture.
func parseDiagram(data []byte) (diagram, error) {
	var d diagram
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return diagram{}, err
	}
	if len(d.Boxes) == 0 || len(d.Arrows) == 0 {
		return diagram{}, fmt.Errorf("%d boxes and %d arrows: want both", len(d.Boxes), len(d.Arrows))
	}
	for _, b := range d.Boxes {
		if _, ok := light.of(b.Kind); !ok {
			return diagram{}, fmt.Errorf("box %q: no kind %q", b.Title, b.Kind)
		}
		if !d.holds(b.X, b.Y) || !d.holds(b.X+b.W, b.Y+b.H) {
			return diagram{}, fmt.Errorf("box %q lies outside", b.Title)
		}
	}
	for _, a := range d.Arrows {
		if !d.touches(a.From) || !d.touches(a.To) {
			return diagram{}, fmt.Errorf("arrow %q does not go from one box to another", a.Text)
		}
	}
	return d, nil
}

func (d diagram) holds(x, y int) bool { return x >= 0 && x <= d.Width && y >= 0 && y <= d.Height }

// touches reports whether a point lies on the border of a box that is not a frame.
func (d diagram) touches(point [2]int) bool {
	for _, b := range d.Boxes {
		x, y := point[0], point[1]
		within := x >= b.X && x <= b.X+b.W && y >= b.Y && y <= b.Y+b.H
		if b.Kind != frame && within && (x == b.X || x == b.X+b.W || y == b.Y || y == b.Y+b.H) {
			return true
		}
	}
	return false
}

// draw returns the diagram as SVG.
func (d diagram) draw(t theme) string {
	var svg strings.Builder
	fmt.Fprintf(
		&svg,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
			`aria-label="The parts and who talks to whom" `+
			`font-family="-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="12">`+"\n",
		d.Width,
		d.Height,
		d.Width,
		d.Height,
	)
	fmt.Fprintf(&svg, `<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">`+
		`<path d="M0 0 8 4 0 8z" fill="%s"/></marker></defs>`+"\n", t.faint)
	for _, b := range d.Boxes {
		colour, _ := t.of(b.Kind)
		middle := b.X + b.W/2
		if b.Kind == frame {
			fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%d" height="%d" rx="8" fill="none" stroke="%s"/>`+"\n", b.X, b.Y, b.W, b.H,
				colour)
			text(&svg, b.X+12, b.Y+20, "start", t.faint, b.Title)
			continue
		}
		fmt.Fprintf(&svg, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" fill-opacity="0.15" stroke="%s"/>`+"\n", b.X,
			b.Y, b.W, b.H, colour, colour)
		text(&svg, middle, b.Y+27, "middle", t.text, b.Title)
		for i, line := range b.Text {
			text(&svg, middle, b.Y+46+16*i, "middle", t.faint, line)
		}
	}
	for _, a := range d.Arrows {
		dashes := ""
		if a.Dashed {
			dashes = ` stroke-dasharray="4 3"`
		}
		fmt.Fprintf(&svg, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"%s marker-end="url(#head)"/>`+"\n",
			a.From[0], a.From[1], a.To[0], a.To[1], t.faint, dashes)
		anchor := a.Anchor
		if anchor == "" {
			anchor = "middle"
		}
		text(&svg, a.At[0], a.At[1], anchor, t.text, a.Text)
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}
