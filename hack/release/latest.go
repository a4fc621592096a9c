package release

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"
)

// Latest reports whether a version is newer than all that were released before, of which tags such as v1.2.3 are given. A patch
// of an older line is not, and neither is a pre-release. Tags that are no versions, and pre-releases, don't count.
func Latest(candidate string, tags []string) (bool, error) {
	if !semver.MatchString(candidate) {
		return false, fmt.Errorf("version %q: want one such as 1.2.3 or 1.2.3-rc.1", candidate)
	}
	this, err := version.ParseSemantic(candidate)
	if err != nil {
		return false, fmt.Errorf("version %q: %w", candidate, err)
	}
	if this.PreRelease() != "" {
		return false, nil
	}
	for _, tag := range tags {
		other, err := version.ParseSemantic(tag)
		if err == nil && other.PreRelease() == "" && this.LessThan(other) {
			return false, nil
		}
	}
	return true, nil
}
