package registration

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// maxGlobs bounds a list of globs, which every container of the namespace is started with.
const maxGlobs = 64

var (
	globPattern = regexp.MustCompile(`^[-A-Za-z0-9_.*?]+$`)

	errNoGlobs = errors.New("it names nothing; a single * allows every name")
)

// ParseAllowed parses a comma-separated list of globs of service names: a name in which * stands for any characters and ?
// for any one. At least one is needed.
func ParseAllowed(text string) (globs []string, err error) {
	globs, err = splitList(text)
	switch {
	case err != nil:
		return nil, err
	case len(globs) == 0:
		return nil, errNoGlobs
	case len(globs) > maxGlobs:
		return nil, fmt.Errorf("it has %d globs, and must not have more than %d", len(globs), maxGlobs)
	}
	for _, glob := range globs {
		if !globPattern.MatchString(glob) || len(glob) > contract.MaxServiceName {
			return nil, fmt.Errorf("%q is no glob of at most %d letters, digits, '-', '_', '.', '*' and '?'", clip(glob), contract.MaxServiceName)
		}
	}
	return globs, nil
}

// Allowed reports whether a service name matches one of the globs. Case doesn't count: Consul's catalog and DNS don't tell
// Web from web.
func Allowed(name string, globs []string) bool {
	name = strings.ToLower(name)
	for _, glob := range globs {
		if matched, err := path.Match(strings.ToLower(glob), name); err == nil && matched {
			return true
		}
	}
	return false
}

// NotAllowed returns a mistake for each of the pod's services whose name matches none of the globs; source says where they
// come from. reg is what Parse made of the pod.
func NotAllowed(pod *corev1.Pod, reg *Registration, globs []string, source string) (errs field.ErrorList) {
	_, structured := pod.Annotations[contract.Services]
	for i, service := range reg.Services {
		if Allowed(service.Name, globs) {
			continue
		}
		at := annotation(contract.ServiceNames)
		if structured {
			at = annotation(contract.Services).Index(i).Child("name")
		}
		errs = append(errs, field.Forbidden(at, fmt.Sprintf("service %q: pods of this namespace may register only %s (%s)",
			service.Name, strings.Join(globs, ","), source)))
	}
	return errs
}
