package printer

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// hostile are malicious texts, and how they must be shown.
var hostile = map[string]struct{ text, shown string }{
	"plain":             {"web is open, 5 s", "web is open, 5 s"},
	"other scripts":     {"é 漢字 🚀", "é 漢字 🚀"},
	"a forged row":      {"because\nok    gates       forged", `because\nok    gates       forged`},
	"a carriage return": {"fail\rok", `fail\rok`},
	"a colour":          {"\x1b[32mok\x1b[0m", `\x1b[32mok\x1b[0m`},
	"a title":           {"\x1b]0;x\a", `\x1b]0;x\a`},
	"NUL and DEL":       {"a\x00b\x7f", `a\x00b\x7f`},
	"C1":                {"\u009b31m\u0085", `\u009b31m\u0085`},
	"not UTF-8":         {"a\xffb\x9b", `a\xffb\x9b`},
	"bidi":              {"\u202egnp.exe\u2066\u2069\u200f\u061c", `\u202egnp.exe\u2066\u2069\u200f\u061c`},
	"separators":        {"a\u2028b\u2029", `a\u2028b\u2029`},
	"invisible":         {"we\u200bb\ufeff\u00ad", `we\u200bb\ufeff\u00ad`},
	"tags":              {"a\U000e0041", `a\U000e0041`},
	"a tab":             {"a\tb", `a\tb`},
	"nothing":           {"", ""},
}

// harmless reports whether a terminal only shows a line, and does nothing else.
func harmless(line string) bool {
	return utf8.ValidString(line) && !strings.ContainsFunc(line, func(r rune) bool {
		return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
	})
}

func TestEscape(t *testing.T) {
	for name, test := range hostile {
		if got := Escape(test.text); got != test.shown {
			t.Errorf("%s: %q, want %q", name, got, test.shown)
		}
	}
}

func TestTable(t *testing.T) {
	rows := [][]Cell{Header("NAME", "STATE"), {Text("a-long-name"), {"é", Green}, Text("x")}, {Text("b"), Text(""), {"la\nst", Red}}}
	for name, test := range map[string]struct {
		colours bool
		want    string
	}{
		"plain":    {false, "  NAME         STATE\n  a-long-name  é      x\n  b            -      la\\nst\n"},
		"coloured": {true, "  \x1b[2mNAME\x1b[0m         \x1b[2mSTATE\x1b[0m\n  a-long-name  \x1b[32mé\x1b[0m      x\n  b            -      \x1b[31mla\\nst\x1b[0m\n"},
	} {
		var out bytes.Buffer
		p := New(&out, test.colours)
		p.Table("  ", rows)
		if out.String() != test.want || p.Err() != nil {
			t.Errorf("%s: %q, %v, want %q", name, out.String(), p.Err(), test.want)
		}
	}
}

func TestLine(t *testing.T) {
	var out bytes.Buffer
	p := New(&out, true)
	p.Line(Cell{"ok", Green}, Text("  a\nb"))
	p.Line()
	p.Error("error", errors.New("no\n\tsense\x1b"))
	if want := "\x1b[32mok\x1b[0m  a\\nb\n\nerror: no sense\\x1b\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func TestLongTextsAreCut(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"short":      {"abc", "abc"},
		"long":       {"abcd", "abc…"},
		"characters": {"äöüß", "äöü…"},
		"bytes":      {"äöü", "äöü"},
	} {
		if got := Clip(test.text, 3); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	var out bytes.Buffer
	New(&out, false).Line(Text(strings.Repeat("\x00", 1<<20)))
	if n := utf8.RuneCountInString(out.String()); n != maxCell+2 { // the ellipsis and the line's end
		t.Errorf("%d characters", n)
	}
}

type full struct{ writes int }

func (f *full) Write([]byte) (int, error) { f.writes++; return 0, errors.New("disk full") }

func TestTheFirstErrorEndsTheOutput(t *testing.T) {
	out := &full{}
	p := New(out, false)
	p.Line(Text("a"))
	p.Table("", [][]Cell{{Text("b")}})
	if p.Err() == nil || !strings.Contains(p.Err().Error(), "disk full") || out.writes != 1 {
		t.Errorf("%v after %d writes", p.Err(), out.writes)
	}
}

func TestJSONIsExactlyTheData(t *testing.T) {
	for name, test := range hostile {
		var out bytes.Buffer
		if err := JSON(&out, map[string]string{"text": test.text}); err != nil {
			t.Fatal(err)
		}
		var back map[string]string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["text"] != strings.ToValidUTF8(test.text, "\ufffd") {
			t.Errorf("%s: %s became %q, %v", name, out.String(), back["text"], err)
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); !harmless(line) {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}

// TestYAMLIsExactlyTheData reads it with two libraries, kubectl's among them.
func TestYAMLIsExactlyTheData(t *testing.T) {
	texts := map[string]string{
		"a number": "0x10", "true": "true", "null": "~", "lines": "a\nb\n", "comment": "a #b: c", "astral": "\U000e0001\U0001f600", "empty": "", "on": "On", "a time": "1:20", "a date": "2030-01-01",
	}
	for name, test := range hostile {
		texts[name] = test.text
	}
	for name, text := range texts {
		var out bytes.Buffer
		if err := YAML(&out, struct {
			Text  string   `json:"text"`
			List  []string `json:"list"`
			Empty []string `json:"empty"`
			N     int      `json:"on"`
		}{text, []string{text}, []string{}, 7}); err != nil {
			t.Fatal(err)
		}
		type form struct {
			Text  string
			List  []string
			Empty []string
			N     int `yaml:"on" json:"on"`
		}
		var back, kubectls form
		err := errors.Join(yaml.Unmarshal(out.Bytes(), &back), kyaml.Unmarshal(out.Bytes(), &kubectls))
		want := form{strings.ToValidUTF8(text, "\ufffd"), []string{strings.ToValidUTF8(text, "\ufffd")}, []string{}, 7}
		if err != nil || !reflect.DeepEqual(back, want) || !reflect.DeepEqual(kubectls, want) {
			t.Errorf("%s: %s became %+v and %+v, %v", name, out.String(), back, kubectls, err)
		}
		if !strings.HasPrefix(out.String(), "text: ") || !strings.HasSuffix(out.String(), "empty: []\n\"on\": 7\n") {
			t.Errorf("%s: the keys are not in order:\n%s", name, out.String())
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimSuffix(line, "\n"); !harmless(line) {
				t.Errorf("%s: %q", name, line)
			}
		}
	}
}

// FuzzRows checks that each row is one line without control characters, whatever its texts are.
func FuzzRows(f *testing.F) {
	for _, test := range hostile {
		f.Add(test.text, "web")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var out bytes.Buffer
		p := New(&out, false)
		p.Line(Text(a), Text(b))
		p.Table("", [][]Cell{Header("A", "B"), {Text(a), Text(b)}, {Text(b), Text(a)}})
		p.Error("error", errors.New(a+b))
		lines := strings.SplitAfter(out.String(), "\n")
		if len(lines) != 6 || lines[5] != "" {
			t.Errorf("5 rows of %q and %q are %d lines", a, b, len(lines)-1)
		}
		for _, line := range lines {
			if line = strings.TrimSuffix(line, "\n"); !harmless(line) || utf8.RuneCountInString(line) > 2*maxCell+4 {
				t.Errorf("%q and %q print %q", a, b, line)
			}
		}
	})
}

func TestColoursOnlyOnTerminals(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	none := func(string) string { return "" }
	if Colours(&bytes.Buffer{}, none) || Colours(file, none) {
		t.Error("colours in a buffer or a file")
	}
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if !Colours(device, none) {
		t.Error("no colours on a character device")
	}
	if Colours(device, func(name string) string { return map[string]string{"NO_COLOR": "1"}[name] }) {
		t.Error("colours in spite of NO_COLOR")
	}
}
