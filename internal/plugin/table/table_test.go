package table

import (
	"bytes"
	"os"
	"testing"
)

func TestWrite(t *testing.T) {
	rows := [][]Cell{Header("NAME", "STATE"), {Text("a-long-name"), {"é", Green}, Text("x")}, {Text("b"), Text(""), {"last", Red}}}
	for name, test := range map[string]struct {
		colours bool
		want    string
	}{
		"plain":    {false, "  NAME         STATE\n  a-long-name  é      x\n  b            -      last\n"},
		"coloured": {true, "  \x1b[2mNAME\x1b[0m         \x1b[2mSTATE\x1b[0m\n  a-long-name  \x1b[32mé\x1b[0m      x\n  b            -      \x1b[31mlast\x1b[0m\n"},
	} {
		var out bytes.Buffer
		if err := Write(&out, "  ", test.colours, rows); err != nil {
			t.Fatal(err)
		}
		if out.String() != test.want {
			t.Errorf("%s: %q, want %q", name, out.String(), test.want)
		}
	}
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
