package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheMapIsXMLAndHasEveryPart(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, mapFile))
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDiagram(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, theme := range []theme{light, dark} {
		words := wordsOf(t, d.draw(theme))
		for _, b := range d.Boxes {
			if !strings.Contains(words, b.Title) {
				t.Errorf("the picture has no %s", b.Title)
			}
		}
		for _, a := range d.Arrows {
			if !strings.Contains(words, a.Text) {
				t.Errorf("the picture has no arrow %s", a.Text)
			}
		}
	}
}

func TestParseDiagram(t *testing.T) {
	const boxes = `{"width": 9, "height": 9, "boxes": [{"w": 2, "h": 2, "kind": "app", "title": "a"}]`
	for name, test := range map[string]struct{ text, err string }{
		"good":           {boxes + `, "arrows": [{"from": [2, 1], "to": [0, 0]}]}`, ""},
		"no arrows":      {boxes + `}`, "0 arrows"},
		"from nowhere":   {boxes + `, "arrows": [{"from": [1, 1], "to": [0, 0], "text": "x"}]}`, `arrow "x"`},
		"to nowhere":     {boxes + `, "arrows": [{"from": [2, 1], "to": [3, 1], "text": "x"}]}`, `arrow "x"`},
		"outside":        {strings.Replace(boxes, `"w": 2`, `"w": 10`, 1) + `, "arrows": [{}]}`, "outside"},
		"unknown kind":   {strings.Replace(boxes, "app", "ape", 1) + `, "arrows": [{}]}`, `no kind "ape"`},
		"unknown field":  {`{"wide": 9}`, "unknown field"},
		"nothing at all": {``, "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseDiagram([]byte(test.text))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
		})
	}
}
