package toolchain

import (
	"strings"
	"testing"
	"time"
)

// example is what `go build -v` prints, with the seconds at which it does.
type example struct {
	at   int
	line string
}

func TestForecastTellsHowFarTheBuildIs(t *testing.T) {
	sizes := map[string]int64{"std/big": 80_000, "std/small": 10_000, "example.org/app": 10_000}
	for name, test := range map[string]struct {
		sizes map[string]int64
		heard []example
		at    int
		want  string
	}{
		"nothing yet":        {nil, nil, 3, "looking for what has to be compiled"},
		"modules are loaded": {nil, []example{{1, "go: downloading k8s.io/api v0.37.1"}, {2, "go: downloading k8s.io/klog v2"}}, 3, "modules downloaded: 2"},
		"before go list has told": {
			nil, []example{{1, "std/small"}}, 60, "packages compiled: 1",
		},
		"all is in the cache":       {map[string]int64{}, nil, 10, "linking"},
		"too early for an estimate": {sizes, []example{{1, "std/small"}}, 15, "1 of 3 packages"},
		"too little for an estimate": {
			map[string]int64{"a": 1, "b": 99}, []example{{1, "a"}}, 120, "1 of 2 packages",
		},
		"estimate by size, not by number": {sizes, []example{{0, "std/small"}}, 60, "1 of 3 packages, about 9 min left"},
		"the large one is done":           {sizes, []example{{0, "std/small"}, {60, "std/big"}}, 90, "2 of 3 packages, about 10 s left"},
		"the time of loading modules doesn't count": {
			sizes, []example{{1, "go: downloading k8s.io/api v0.37.1"}, {600, "std/small"}}, 660, "1 of 3 packages, about 9 min left",
		},
		"compiled before go list has looked": {
			sizes, []example{{0, "early"}, {0, "std/small"}}, 60, "2 of 4 packages, about 9 min left",
		},
		"named twice": {sizes, []example{{0, "std/small"}, {0, "std/small"}}, 10, "1 of 3 packages"},
		"all are compiled": {
			sizes, []example{{0, "std/small"}, {1, "std/big"}, {2, "example.org/app"}}, 60, "linking",
		},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			f := forecast{sizes: test.sizes}
			for _, h := range test.heard {
				if !f.hear(h.line, start.Add(time.Duration(h.at)*time.Second)) {
					t.Errorf("%q was not taken for progress", h.line)
				}
			}
			if got := f.tell(start.Add(time.Duration(test.at) * time.Second)); got != test.want {
				t.Errorf("tell = %q, want %q", got, test.want)
			}
		})
	}
}

func TestTimeLeft(t *testing.T) {
	for name, test := range map[string]struct {
		done, total int64
		elapsed     time.Duration
		want        string
	}{
		"none done":             {0, 100, time.Minute, ""},
		"within the first time": {50, 100, 14 * time.Second, ""},
		"too small a share":     {3, 100, time.Hour, ""},
		"minutes":               {25, 100, 2 * time.Minute, "6 min"},
		"rounded minutes":       {10, 100, 17 * time.Second, "3 min"},
		"tens of seconds":       {50, 100, 89 * time.Second, "80 s"},
		"never nothing":         {99, 100, time.Minute, "10 s"},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := timeLeft(test.done, test.total, test.elapsed)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("timeLeft = %q, %v; want %q", got, ok, test.want)
			}
		})
	}
}

func TestErrorsOfABuildAreNoProgress(t *testing.T) {
	var heard []string
	f := forecast{}
	output := &lines{rest: tail{limit: 100}, hear: func(line string) bool {
		if f.hear(line, time.Now()) {
			heard = append(heard, line)
			return true
		}
		return false
	}}
	// As a pipe may cut it.
	for _, part := range []string{"int", "ernal/abi\nexample.org/", "app\n# example.org/app\n./main.go:3:1: undef", "ined: x\n"} {
		if _, err := output.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(heard, " "); got != "internal/abi example.org/app" {
		t.Errorf("packages = %q", got)
	}
	if want := "# example.org/app\n./main.go:3:1: undefined: x\n"; output.String() != want {
		t.Errorf("the rest = %q, want %q", output.String(), want)
	}
}
