// Package version holds the version of this build.
package version

// Version of this build; the release sets it at link time (-ldflags "-X …/internal/version.Version=v1.2.3").
var Version = "dev"
