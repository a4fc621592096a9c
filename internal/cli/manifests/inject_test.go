package manifests

import (
	"encoding/json"
	"testing"

	jsonpatchv4 "gopkg.in/evanphx/json-patch.v4"
)

// TestAdditionsAreThoseOfTheLibrary compares with the library by which the API server applies a patch.
func TestAdditionsAreThoseOfTheLibrary(t *testing.T) {
	const document = `{"a": {"b~/c": [{"d": 1}, 2.50, null, "<"]}, "e": null, "f": "text", "g": [], "h": {}}`
	for name, test := range map[string]struct {
		path string
		fits bool
	}{
		"a member":                   {"/i", true},
		"a member that is there":     {"/f", true},
		"a member that is null":      {"/e", true},
		"an empty name":              {"/", true},
		"an escaped name":            {"/a/b~0~1c/0/x", true},
		"in an empty mapping":        {"/h/x", true},
		"an item at the start":       {"/a/b~0~1c/0", true},
		"an item in the middle":      {"/a/b~0~1c/2", true},
		"an item at the end":         {"/a/b~0~1c/4", true},
		"a last item":                {"/a/b~0~1c/-", true},
		"a last item of none":        {"/g/-", true},
		"an item behind the end":     {"/a/b~0~1c/5", false},
		"no number":                  {"/a/b~0~1c/x", false},
		"below what isn't there":     {"/x/y", false},
		"below null":                 {"/e/x", false},
		"below an item that is null": {"/a/b~0~1c/2/x", false},
		"below no item":              {"/a/b~0~1c/4/x", false},
		"below a last item":          {"/a/b~0~1c/-/x", false},
		"below a text":               {"/f/x", false},
	} {
		t.Run(name, func(t *testing.T) {
			additions := []addition{{"add", test.path, json.RawMessage(`{"z": [1, "&"], "y": 1e3}`)}, {"add", "/last", json.RawMessage(`"x"`)}}
			encoded, err := encodeJSON(additions)
			if err != nil {
				t.Fatal(err)
			}
			patch, err := jsonpatchv4.DecodePatch(encoded)
			if err != nil {
				t.Fatal(err)
			}
			want, theirs := patch.Apply([]byte(document))
			got, ours := withAdditions([]byte(document), additions)
			if (theirs == nil) != test.fits || (ours == nil) != test.fits {
				t.Fatalf("the library's error: %v, ours: %v, want one: %v", theirs, ours, !test.fits)
			}
			if test.fits && string(got) != string(canonical(want)) {
				t.Errorf("%s, the library's is %s", got, want)
			}
		})
	}
}
