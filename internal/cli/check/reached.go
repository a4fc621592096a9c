package check

import "slices"

// Reached reports whether anything could be looked at: the API server has said at least its version.
func Reached(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Check != "kubernetes" || f.Level == OK })
}

// Wrong returns the findings that say that something is not well.
func Wrong(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Level == OK || f.Level == Skip })
}
