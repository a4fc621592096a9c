package registration

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var (
	namePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)

	errNamePattern = errors.New(
		"a service name consists of letters, digits, '-', '_' and '.', and starts and ends with a letter or a digit")
	errNameLength = fmt.Errorf("a service name has at most %d characters", contract.MaxServiceName)
)

// checkName says what is wrong with a name in Consul.
func checkName(name string) error {
	switch {
	case !namePattern.MatchString(name):
		return fmt.Errorf("%q: %w", Excerpt(name), errNamePattern)
	case len(name) > contract.MaxServiceName:
		return fmt.Errorf("%q: %w", Excerpt(name), errNameLength)
	}
	return nil
}

// reservedName is the service of Consul's own servers, to which its leader adds each of them. Consul finds them by it: for
// the NS records of its DNS domain, for the addresses in peering tokens, and for mesh gateways. Where it looks services up it
// tells no cases apart. A token for all services has the right to this one, too.
const reservedName = "consul"

var errReservedName = errors.New("it is the service of Consul's own servers, and its instances are taken for servers")

// checkServiceName says what is wrong with the name of a service that a pod registers.
func checkServiceName(name string) error {
	if strings.EqualFold(name, reservedName) {
		return fmt.Errorf("%q: %w", name, errReservedName)
	}
	return checkName(name)
}

// names are the services' names of one pod, which differ in more than case: Consul's catalog and DNS don't tell Web
// from web.
type names map[string]bool

// take reports whether the name was still free.
func (n names) take(name string) bool {
	folded := strings.ToLower(name)
	if n[folded] {
		return false
	}
	n[folded] = true
	return true
}
