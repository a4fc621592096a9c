package release

import (
	"strings"
	"testing"
)

func TestLatest(t *testing.T) {
	for name, test := range map[string]struct {
		version, tags string
		want          bool
	}{
		"the first":                       {"0.9.0", "", true},
		"a new minor version":             {"1.3.0", "v1.2.9 v1.2.0", true},
		"a patch of the newest line":      {"1.10.1", "v1.10.0 v1.9.5", true},
		"a patch of an older line":        {"1.2.4", "v1.3.0 v1.2.3", false},
		"numbers, not texts":              {"1.9.1", "v1.10.0", false},
		"an older major version":          {"1.99.0", "v2.0.0", false},
		"a pre-release":                   {"2.0.0-rc.1", "v1.0.0", false},
		"beside a newer pre-release":      {"1.2.4", "v1.3.0-rc.1", true},
		"after its own pre-release":       {"1.3.0", "v1.3.0-rc.1", true},
		"its own tag":                     {"1.3.0", "v1.3.0", true},
		"beside tags that are no version": {"1.3.0", "nightly v9 v2.0 docs-3.0.0", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Latest(test.version, strings.Fields(test.tags))
			if err != nil || got != test.want {
				t.Errorf("Latest = %v, %v; want %v", got, err, test.want)
			}
		})
	}
	for _, version := range []string{"", "dev", "v1.2.3", "1.2"} {
		if _, err := Latest(version, nil); err == nil || !strings.Contains(err.Error(), "want one such as") {
			t.Errorf("%q: error = %v", version, err)
		}
	}
}
