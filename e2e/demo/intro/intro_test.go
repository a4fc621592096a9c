package intro

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestText(t *testing.T) {
	for name, test := range map[string]struct {
		build      time.Duration
		processors int
		want       []string
		not        string
	}{
		"all is built": {0, 2, []string{"It takes about 2 minutes.", "kept in /cache", "make demo-down"}, "processor time"},
		"first time": {
			678 * time.Second, 2,
			[]string{"It takes about 8 minutes.", "12 minutes of processor time for the 2 processors here"},
			"",
		},
		"first time on a large machine": {678 * time.Second, 16, []string{"It takes about 3 minutes."}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := text(test.build, test.processors, "/cache")
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("lacks %q:\n%s", want, got)
				}
			}
			if test.not != "" && strings.Contains(got, test.not) {
				t.Errorf("says %q:\n%s", test.not, got)
			}
		})
	}
}

func TestRequireSpace(t *testing.T) {
	later := filepath.Join(t.TempDir(), "not", "yet")
	if err := requireSpace(later, 0); err != nil {
		t.Errorf("a folder that will be made: %v", err)
	}
	const more = 1 << 20 // GiB that no disk has
	if err := requireSpace(later, more); err == nil || !strings.Contains(err.Error(), "GiB free, want 1048576 GiB") {
		t.Errorf("too little space: %v", err)
	}
}
