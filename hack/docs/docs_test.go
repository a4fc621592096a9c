package docs

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const root = "../.."

func TestFill(t *testing.T) {
	tables := map[string]string{"a": "A\n", "b": "B\n"}
	for name, test := range map[string]struct{ page, want, err string }{
		"nothing":   {page: "text", want: "text"},
		"empty":     {page: "x\n<!-- generated: a -->\n<!-- end -->\ny", want: "x\n<!-- generated: a -->\nA\n<!-- end -->\ny"},
		"old":       {page: "<!-- generated: a -->\nold\n<!-- end -->", want: "<!-- generated: a -->\nA\n<!-- end -->"},
		"two":       {page: "<!-- generated: b -->\n<!-- end --><!-- generated: a -->\n<!-- end -->", want: "<!-- generated: b -->\nB\n<!-- end --><!-- generated: a -->\nA\n<!-- end -->"},
		"unknown":   {page: "<!-- generated: c -->\n<!-- end -->", err: `no table "c"`},
		"endless":   {page: "<!-- generated: a -->\n", err: `table "a" has no`},
		"stops":     {page: "<!-- generated: a", err: "no table"},
		"swallowed": {page: "<!-- generated: a -->\n<!-- generated: b -->\n<!-- end -->", err: `table "a" has no`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := fill(test.page, tables)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil || got != test.want {
				t.Errorf("got %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

func TestTablesAreComplete(t *testing.T) {
	for name, table := range tables() {
		lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
		for _, line := range lines {
			bars := strings.Count(line, "|") - strings.Count(line, `\|`)
			if bars != strings.Count(lines[1], "|") {
				t.Errorf("%s: %q has another number of cells than the head", name, line)
			}
		}
	}
	if strings.Contains(adviceTable(), "|  |\n") {
		t.Errorf("a reason has no advice:\n%s", adviceTable())
	}
	for _, key := range contract.MetaKeys() {
		if strings.Contains(metaTable(), code(key)+" |  |") {
			t.Errorf("no value for the meta %s", key)
		}
	}
}

// TestEachKeyIsInOneTable checks that no key is left out of the contract's tables, and none is said twice.
func TestEachKeyIsInOneTable(t *testing.T) {
	rows := map[string]int{}
	for name, table := range tables() {
		if !strings.HasPrefix(name, "contract-") {
			continue
		}
		for line := range strings.Lines(table) {
			if _, after, found := strings.Cut(line, "| `"); found {
				key, _, _ := strings.Cut(after, "`")
				rows[strings.TrimSuffix(key, "[.NAME]")]++
			}
		}
	}
	want := map[string]int{}
	for _, k := range contract.Keys() { // inject is on namespaces and on pods
		want[contract.Short(k.Name)]++
	}
	if !maps.Equal(rows, want) {
		t.Errorf("the tables have the keys %v, want %v", rows, want)
	}
}

func TestPictureIsXML(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, lifeFile))
	if err != nil {
		t.Fatal(err)
	}
	l, err := parseLife(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, theme := range []theme{light, dark} {
		if words := wordsOf(t, draw(l, theme)); !strings.Contains(words, "Ready") {
			t.Errorf("the picture says %q", words)
		}
	}
}

// wordsOf returns the text of a picture, which must be valid XML.
func wordsOf(t *testing.T, picture string) string {
	t.Helper()
	var words strings.Builder
	for decoder := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return words.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			words.Write(text)
		}
	}
}

func TestParseLife(t *testing.T) {
	for _, bad := range []string{"", "{}", `{"birth": [], "else": 1}`} {
		if _, err := parseLife([]byte(bad)); err == nil {
			t.Errorf("parseLife(%q) found no error", bad)
		}
	}
}
