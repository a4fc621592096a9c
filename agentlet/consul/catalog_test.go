package consul

import (
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
)

// TestFailingCheckIsNamedWithItsAnswer has outputs as Consul 1.22 writes them.
func TestFailingCheckIsNamedWithItsAnswer(t *testing.T) {
	for name, c := range map[string]struct{ output, want string }{
		"not yet run":         {"", "own"},
		"a status":            {"HTTP GET http://10.1.0.5:8080/healthz: 503 Service Unavailable Output: warming up, 17 of 40", "own (HTTP GET http://10.1.0.5:8080/healthz: 503 Service Unavailable)"},
		"nothing listens":     {`Get "http://10.1.0.5:8080/": dial tcp 10.1.0.5:8080: connect: connection refused`, `own (Get "http://10.1.0.5:8080/": dial tcp 10.1.0.5:8080: connect: connection refused)`},
		"a broken connection": {`Get "http://10.1.0.5:8080/": read tcp 10.0.0.1:53412->10.1.0.5:8080: read: connection reset by peer`, `own (Get "http://10.1.0.5:8080/": read tcp 10.1.0.5:8080: read: connection reset by peer)`},
		"one over IPv6":       {"read tcp [fd00::1]:53412->[fd00::5]:8080: i/o timeout", "own (read tcp [fd00::5]:8080: i/o timeout)"},
		"several lines":       {"first\nsecond", "own (first)"},
		"control characters":  {"a\x1b[31mred\x00", "own (a[31mred)"},
		"no UTF-8":            {"a\xffb", "own (ab)"},
		"a long one":          {strings.Repeat("é", 1000), "own (" + strings.Repeat("é", maxOutput/2) + ")"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := failing(&api.HealthCheck{Name: "own", Status: api.HealthCritical, Output: c.output}); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
