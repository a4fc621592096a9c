package docs

import (
	"fmt"
	"html"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/hack/figures"
	"github.com/agentlet/agentlet/hack/restart"
)

// The picture of the demo's two restarts: what the demo has measured, and what is drawn from it. The picture is one file for
// light and dark, since it chooses by itself.
const (
	restartFile    = "docs/images/restart.json"
	restartPicture = "docs/images/restart.svg"
)

// Sizes in the picture, in pixels.
const (
	restartWidth = 960
	plotLeft     = 96
	plotRight    = restartWidth - 16
	rowHeight    = 19
	rowBar       = 14
	headHeight   = 44 // of a panel, above its rows
	groupGap     = 8
	laneGap      = 10
	laneHeight   = 14
	panelGap     = 14
	axisHeight   = 58
	small        = 11.5 // font size of labels
)

// The animation plays once, and WCAG asks for at most five seconds of what starts by itself.
const playedSeconds = 5.0

// before is how many milliseconds before the restart the picture begins.
const before = 800

// endSpace is how many milliseconds the picture goes on after all is over, so that there is place for the last label.
const endSpace = 1200

// clip is the picture of both restarts, on one scale of time.
type clip struct {
	comparison restart.Comparison
	end        int // of the time that is shown
	svg        strings.Builder
}

// drawRestarts returns the picture as SVG. It is complete where nothing moves: the animation only delays what is drawn.
func drawRestarts(c restart.Comparison) string {
	p := &clip{comparison: c}
	for _, r := range []restart.Restart{c.ByHand, c.Agentlet} {
		for _, pod := range r.Old {
			p.end = max(p.end, pod.At[restart.Gone]+endSpace)
		}
		for _, pod := range r.New {
			p.end = max(p.end, pod.At[restart.Ready]+endSpace, pod.At[restart.InCatalog]+endSpace)
		}
	}
	second := p.height(c.ByHand) + panelGap
	bottom := second + p.height(c.Agentlet)
	fmt.Fprintf(&p.svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" `+
		`aria-label="%s" font-family="-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif" font-size="%g">`+"\n",
		restartWidth, bottom+axisHeight, restartWidth, bottom+axisHeight, html.EscapeString(c.Verdict()), small)
	p.svg.WriteString(restartStyle())
	p.axis(bottom)
	p.panel(0, "Without Agentlet", "registered by a sidecar, checked by Consul every 10 s", c.ByHand)
	p.panel(second, "With Agentlet", "Ready only once Consul has it, SIGTERM only once Consul has let it go", c.Agentlet)
	fmt.Fprintf(&p.svg, `<line class="play" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", plotLeft, headHeight-8, plotLeft, bottom)
	p.svg.WriteString("</svg>\n")
	return p.svg.String()
}

// restartStyle returns the colours of both themes, and the animation.
func restartStyle() string {
	colours := func(t theme, bad, late string) string {
		return fmt.Sprintf(`.text{fill:%s}.faint{fill:%s}.line{stroke:%s}.serves{fill:%s}.spare{fill:%s}.bad{fill:%s}.badline{stroke:%s}`+
			`.late{fill:%s}.good{fill:%s}.play{stroke:%s}.card{stroke:%s}.term{stroke:%s}.hatch{stroke:%s}`,
			t.text, t.faint, t.line, t.app, t.app, bad, bad, late, t.kube, t.faint, t.line, t.text, t.app)
	}
	return "<style>\n" + colours(light, "#cf222e", "#eac54f") + "\n" +
		"@media (prefers-color-scheme:dark){" + colours(dark, "#f85149", "#9e6a03") + "}\n" +
		".card{fill:none}.hatched{fill:url(#hatch)}.starts{fill-opacity:.18}.spare{fill-opacity:.12}.ends{fill-opacity:.35}.lane{fill-opacity:.25}" +
		".play{opacity:0}.term{stroke-width:2}.title{font-size:17px;font-weight:600}.count{font-size:20px;font-weight:700}" +
		".note{font-size:13px}.badline{stroke-opacity:.45;stroke-dasharray:2 3}.strong{font-weight:600}\n" +
		fmt.Sprintf("@media (prefers-reduced-motion:no-preference){"+
			".grow{transform-box:fill-box;transform-origin:left;animation:grow 1s linear backwards}"+
			".come{animation:come .3s ease-out backwards}.play{animation:play %gs linear}}\n"+
			"@keyframes grow{from{transform:scaleX(0)}}@keyframes come{from{opacity:0}}"+
			"@keyframes play{from{opacity:.8;transform:translateX(0)}98%%{opacity:.8}to{opacity:0;transform:translateX(%dpx)}}\n",
			playedSeconds, plotRight-plotLeft) + "</style>\n" +
		`<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">` +
		`<line class="hatch" x1="0" y1="0" x2="0" y2="6" stroke-width="3" stroke-opacity=".3"/></pattern></defs>` + "\n"
}

func (p *clip) height(r restart.Restart) int {
	return headHeight + rowHeight*(len(r.Old)+len(r.New)) + groupGap + laneGap + laneHeight + 26
}

// x is the place of a time, within the plot.
func (p *clip) x(ms int) float64 {
	ms = min(max(ms, -before), p.end)
	return plotLeft + float64(ms+before)*(plotRight-plotLeft)/float64(p.end+before)
}

// delay is when a time comes in the animation.
func (p *clip) delay(ms int) float64 {
	return (p.x(ms) - plotLeft) / (plotRight - plotLeft) * playedSeconds
}

// bar draws a bar that grows while the animation passes it.
func (p *clip) bar(class string, y, from, to int) {
	if to <= from {
		return
	}
	fmt.Fprintf(&p.svg, `<rect class="grow %s" x="%.1f" y="%d" width="%.1f" height="%d" rx="2" `+
		`style="animation-delay:%.2fs;animation-duration:%.2fs"/>`+"\n",
		class, p.x(from), y, p.x(to)-p.x(from), rowBar, p.delay(from), p.delay(to)-p.delay(from))
}

// label writes a text that comes when the animation reaches a time.
func (p *clip) label(class, anchor string, x float64, y, ms int, content string) {
	fmt.Fprintf(&p.svg, `<text class="come %s" x="%.1f" y="%d" text-anchor="%s" style="animation-delay:%.2fs">%s</text>`+"\n",
		class, x, y, anchor, p.delay(ms), html.EscapeString(content))
}

// fixed writes a text that is always there.
func (p *clip) fixed(class, anchor string, x, y int, content string) {
	fmt.Fprintf(&p.svg, `<text class="%s" x="%d" y="%d" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor,
		html.EscapeString(content))
}

func (p *clip) panel(top int, title, note string, r restart.Restart) {
	fmt.Fprintf(&p.svg, `<rect class="card" x="0.5" y="%d.5" width="%d" height="%d" rx="8"/>`+"\n",
		top, restartWidth-1, p.height(r)-1)
	fmt.Fprintf(&p.svg, `<text class="text" x="14" y="%d"><tspan class="title">%s</tspan>`+
		`<tspan class="faint note" dx="10">%s</tspan></text>`+"\n", top+27, title, html.EscapeString(note))
	verdict := "good"
	if len(r.Failed) > 0 {
		verdict = "bad"
	}
	p.fixed(verdict+" count", "end", plotRight, top+28,
		fmt.Sprintf("%d of %s requests failed", len(r.Failed), figures.Thousands(r.Requests)))

	y := top + headHeight
	lane := y + rowHeight*(len(r.Old)+len(r.New)) + groupGap + laneGap
	groups := clusters(r.Failed, p.width(labelSpace))
	for _, group := range groups {
		x := p.x(group.from)
		fmt.Fprintf(&p.svg, `<line class="badline come" x1="%.1f" y1="%d" x2="%.1f" y2="%d" style="animation-delay:%.2fs"/>`+"\n",
			x, y, x, lane, p.delay(group.from))
	}
	p.fixed("faint", "start", 14, y+rowHeight*len(r.Old)/2+2, "old pods")
	for _, pod := range slices.SortedFunc(slices.Values(r.Old), func(a, b restart.Pod) int {
		return a.At[restart.SIGTERM] - b.At[restart.SIGTERM]
	}) {
		p.old(y, pod)
		y += rowHeight
	}
	y += groupGap
	p.fixed("faint", "start", 14, y+rowHeight*len(r.New)/2+2, "new pods")
	for _, pod := range r.New {
		p.fresh(y, pod)
		y += rowHeight
	}
	p.requests(lane, r, groups)
}

// old draws a pod that is replaced.
func (p *clip) old(y int, pod restart.Pod) {
	out, term, gone := pod.At[restart.OutOfCatalog], pod.At[restart.SIGTERM], pod.At[restart.Gone]
	p.bar("serves", y, -before, min(out, term))
	text := "SIGTERM"
	if out < term {
		p.bar("hatched", y, out, term)
		p.bar("spare", y, out, term)
		p.label("text", "middle", (p.x(out)+p.x(term))/2, y+rowBar-3, out+(term-out)/4,
			fmt.Sprintf("out of Consul %s, still answers", seconds(term-out)))
	} else {
		p.bar("bad", y, term, max(out, term+p.width(visible)))
		text = fmt.Sprintf("SIGTERM, and in Consul for %s more", seconds(out-term))
	}
	p.bar("faint ends", y, max(out, term), gone)
	x := p.x(term)
	fmt.Fprintf(&p.svg, `<line class="term come" x1="%.1f" y1="%d" x2="%.1f" y2="%d" style="animation-delay:%.2fs"/>`+"\n",
		x, y-2, x, y+rowBar+2, p.delay(term))
	p.label("text", "start", p.x(gone)+6, y+rowBar-3, term, text)
}

// Pixels that something needs to be seen, or read.
const (
	visible    = 4
	labelSpace = 52
)

// width is how many milliseconds are that many pixels wide.
func (p *clip) width(pixels int) int { return pixels * (p.end + before) / (plotRight - plotLeft) }

// fresh draws a pod that replaces another.
func (p *clip) fresh(y int, pod restart.Pod) {
	ready, shown := pod.At[restart.Ready], pod.At[restart.InCatalog]
	p.bar("serves starts", y, pod.At[restart.Admitted], min(ready, shown))
	p.bar("late", y, ready, shown)
	p.bar("serves", y, shown, p.end)
}

// requests draws the lane with the failed requests.
func (p *clip) requests(y int, r restart.Restart, groups []cluster) {
	p.fixed("faint", "start", 14, y+laneHeight-3, "requests")
	p.bar("good lane", y, 0, min(p.end, r.Requests*1000/p.comparison.Rate))
	for _, ms := range r.Failed {
		fmt.Fprintf(&p.svg, `<rect class="bad come" x="%.1f" y="%d" width="2" height="%d" style="animation-delay:%.2fs"/>`+"\n",
			p.x(ms)-1, y-2, rowBar+4, p.delay(ms))
	}
	for _, group := range groups {
		p.label("bad strong", "middle", p.x(group.middle()), y+laneHeight+16, group.to, fmt.Sprintf("%d failed", group.n))
	}
}

// cluster is failed requests with one label.
type cluster struct{ from, to, n int }

func (c cluster) middle() int { return (c.from + c.to) / 2 }

// near is the distance in milliseconds below which failures have one cause.
const near = 300

// clusters groups failures, which are sorted. space is how far labels have to be from each other, in milliseconds.
func clusters(failed []int, space int) (groups []cluster) {
	for i, ms := range failed {
		if i == 0 || ms-failed[i-1] > near {
			groups = append(groups, cluster{from: ms})
		}
		last := &groups[len(groups)-1]
		last.to, last.n = ms, last.n+1
	}
	for i := len(groups) - 1; i > 0; i-- {
		if before := groups[i-1]; groups[i].middle()-before.middle() < space {
			groups[i-1] = cluster{before.from, groups[i].to, before.n + groups[i].n}
			groups = slices.Delete(groups, i, i+1)
		}
	}
	return groups
}

// axis draws the scale of time, and what the colours mean.
func (p *clip) axis(y int) {
	step := 1000
	if p.end > 20000 {
		step = 2000
	}
	for ms := 0; ms <= p.end; ms += step {
		x := p.x(ms)
		fmt.Fprintf(&p.svg, `<line class="line" x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke-opacity=".6"/>`+"\n", x, headHeight-8, x, y)
		text := fmt.Sprint(ms / 1000)
		if ms == 0 {
			text = "restart"
		}
		p.fixed("faint", "middle", int(x), y+16, text)
	}
	p.fixed("faint", "end", plotRight, y+34, "seconds")
	x := plotLeft
	for _, item := range []struct {
		class, text string
		width       int
	}{
		{"serves starts", "starts", 72},
		{"serves", "gets requests", 114},
		{"hatched", "gets none, still answers", 172},
		{"faint ends", "ends", 62},
		{"late", "Ready, but not in Consul", 176},
		{"bad", "has ended, but in Consul", 170},
	} {
		fmt.Fprintf(&p.svg, `<rect class="%s" x="%d" y="%d" width="20" height="12" rx="2"/>`+"\n", item.class, x, y+34)
		p.fixed("text", "start", x+26, y+44, item.text)
		x += item.width
	}
}

func seconds(ms int) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	return fmt.Sprintf("%.1f s", float64(ms)/1000)
}
