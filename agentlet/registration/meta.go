package registration

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Consul's limits on a service's meta.
const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
	metaReserved = "consul-"
)

var (
	metaKeyPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	// agentletMeta are the pairs that every instance gets; what is left of Consul's limit is the service's own.
	agentletMeta = contract.MetaKeys()

	errMetaCount = fmt.Errorf("a service may have %d pairs of its own: Consul takes %d, and agentlet adds %d",
		maxMetaPairs-len(agentletMeta), maxMetaPairs, len(agentletMeta))
	errMetaKey = errors.New("a meta key consists of letters, digits, '-' and '_'")
)

// checkMeta says what is wrong with one pair.
func checkMeta(key, value string) error {
	if err := checkMetaKey(key); err != nil {
		return err
	}
	if len(value) > maxMetaValue {
		return fmt.Errorf("the value of %q has %d characters, Consul takes %d", key, len(value), maxMetaValue)
	}
	return nil
}

func checkMetaKey(key string) error {
	switch {
	case !metaKeyPattern.MatchString(key):
		return fmt.Errorf("%q: %w", Excerpt(key), errMetaKey)
	case len(key) > maxMetaKey:
		return fmt.Errorf("the key %q has %d characters, Consul takes %d", Excerpt(key), len(key), maxMetaKey)
	case strings.HasPrefix(key, metaReserved):
		return fmt.Errorf("%q: Consul keeps keys that start with %s for itself", key, metaReserved)
	case slices.Contains(agentletMeta, key), key == contract.MetaNudge:
		return fmt.Errorf("%q is set by agentlet", key)
	}
	return nil
}

func checkMetaCount(pairs int) error {
	if pairs > maxMetaPairs-len(agentletMeta) {
		return errMetaCount
	}
	return nil
}
