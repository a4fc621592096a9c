package manifests

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	// remote is how the name of something that isn't here begins: as an address, or as kustomize's git::.
	remote = regexp.MustCompile(`(?i)^(git::)?([a-z][a-z0-9+.-]*://)?`)
	// bareUser and bareQuery are what an address without a scheme may have before its host, and after its path.
	bareUser  = regexp.MustCompile(`^[^/@]*:[^/@]*@`)
	bareQuery = regexp.MustCompile(`\?[^/?=]+=.*$`)
	// addressIn is an address in a text, also where its slashes were taken for those of a path.
	addressIn = regexp.MustCompile(`(?i)\b(git::)?[a-z][a-z0-9+.-]+:/+[^\s'"` + "`" + `]+`)
	oneBar    = regexp.MustCompile(`(?i)^((?:git::)?[a-z][a-z0-9+.-]*:)/+`)
)

// hidden stands for what is not shown.
const hidden = "(hidden)"

// Shown is the name of manifests as everything prints it, be it a file, a folder or an address. User, password and query of an
// address are left out: tokens may be in each of them.
func Shown(name string) string {
	prefix := remote.FindString(name)
	rest := name[len(prefix):]
	if !strings.HasSuffix(prefix, "://") {
		rest = bareQuery.ReplaceAllString(bareUser.ReplaceAllString(rest, ""), "")
		if prefix != "" { // git::user@host:path
			rest = rest[strings.LastIndex(beforeSlash(rest), "@")+1:]
		}
		return prefix + rest
	}
	if at, err := url.Parse("https://" + rest); err == nil {
		return prefix + at.Host + at.EscapedPath()
	}
	// This is no URL, such as ssh://user@host:path, or one whose password should have been escaped.
	at := strings.LastIndex(rest, "@")
	if strings.ContainsAny(rest[:max(at, 0)], "?#") {
		return prefix + hidden // can't be told apart
	}
	rest = rest[at+1:]
	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}
	return prefix + rest
}

func beforeSlash(name string) string {
	host, _, _ := strings.Cut(name, "/")
	return host
}

// shownText is what another program says about a name, with each address as Shown has it, and without the name's secrets.
func shownText(text, name string) string {
	text = strings.ReplaceAll(text, name, Shown(name))
	text = addressIn.ReplaceAllStringFunc(text, func(address string) string {
		return Shown(oneBar.ReplaceAllString(address, "$1//"))
	})
	for _, secret := range secrets(name) {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// secrets are those parts of an address that may be secret, and are long enough to be. A revision is none: errors are about it.
func secrets(name string) (parts []string) {
	at, err := url.Parse(name[len(remote.FindStringSubmatch(name)[1]):])
	if err != nil || at.Scheme == "" {
		return nil
	}
	password, _ := at.User.Password()
	all := []string{at.User.String(), at.User.Username(), password}
	for key, values := range at.Query() {
		if key != "ref" && key != "version" {
			all = append(all, values...)
		}
	}
	for _, part := range all {
		if len(part) >= 6 {
			parts = append(parts, part)
		}
	}
	return parts
}
