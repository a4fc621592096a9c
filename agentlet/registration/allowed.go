package registration

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	// maxGlobs bounds a list of globs, which every agentlet of the namespace is started with.
	maxGlobs = 64
	// maxTagGlob bounds a glob of tags, in bytes. Longer tags are matched by a * at its end.
	maxTagGlob = 128
	// denies is how a glob begins that denies what it matches.
	denies = "!"
	// everything is the glob that matches whatever there is.
	everything = "*"
)

var (
	nameGlobPattern = regexp.MustCompile(`^[-A-Za-z0-9_.*?]+$`)

	errNoGlobs = errors.New("it names nothing; a single * allows everything")
)

// Allowed is what the pods of a namespace may register. The zero Allowed allows everything.
type Allowed struct {
	Services, Tags Globs
}

// Globs allow what matches none of those that begin with an exclamation mark, and one of the others if there are any. In a glob *
// stands for any characters, and ? for any one. The zero Globs allow everything.
type Globs struct {
	// Source says in errors where they come from.
	Source string
	globs  []glob
}

// glob is one of them: folded is text as it is matched, without the mark.
type glob struct {
	text, folded string
	denies       bool
}

// ParseServiceGlobs parses a comma-separated list of globs of service names. At least one is needed.
func ParseServiceGlobs(text, source string) (Globs, error) {
	return parseGlobs(text, source, func(pattern string) error {
		if !nameGlobPattern.MatchString(pattern) || len(pattern) > contract.MaxServiceName {
			return fmt.Errorf("%q is no glob of at most %d letters, digits, '-', '_', '.', '*' and '?'",
				Excerpt(pattern), contract.MaxServiceName)
		}
		return nil
	})
}

// ParseTagGlobs parses a comma-separated list of globs of tags, with \, for a comma. At least one is needed.
func ParseTagGlobs(text, source string) (Globs, error) {
	return parseGlobs(text, source, func(pattern string) error {
		switch {
		case pattern == "" || len(pattern) > maxTagGlob:
			return fmt.Errorf("%q is no glob of 1 to %d bytes", Excerpt(pattern), maxTagGlob)
		case strings.Contains(pattern, "$"):
			// The list is handed on in arguments of containers.
			return fmt.Errorf("%q holds a $, which Kubernetes expands in a container's arguments; write ? for it", pattern)
		}
		return nil
	})
}

func parseGlobs(text, source string, check func(pattern string) error) (Globs, error) {
	items, err := splitList(text)
	switch {
	case err != nil:
		return Globs{}, err
	case len(items) == 0:
		return Globs{}, errNoGlobs
	case len(items) > maxGlobs:
		return Globs{}, fmt.Errorf("it has %d globs, and must not have more than %d", len(items), maxGlobs)
	}
	parsed := Globs{Source: source, globs: make([]glob, 0, len(items))}
	for _, item := range items {
		pattern, denied := strings.CutPrefix(item, denies)
		pattern = strings.TrimSpace(pattern)
		if err := check(pattern); err != nil {
			return Globs{}, err
		}
		parsed.globs = append(parsed.globs, glob{text: pattern, folded: fold(pattern), denies: denied})
	}
	return parsed, nil
}

// All reports whether they allow everything, whatever it is.
func (g Globs) All() bool {
	every := len(g.globs) == 0
	for i := range g.globs {
		if g.globs[i].denies {
			return false
		}
		every = every || g.globs[i].folded == everything
	}
	return every
}

// String is the list as it is parsed.
func (g Globs) String() string {
	items := make([]string, 0, len(g.globs))
	for i := range g.globs {
		item := strings.ReplaceAll(g.globs[i].text, ",", `\,`)
		if g.globs[i].denies {
			item = denies + item
		}
		items = append(items, item)
	}
	return strings.Join(items, ",")
}

// Refusal says why a name or tag is not allowed, with the glob and where it comes from; it is empty where it is allowed. Neither
// case nor spaces around it count: Consul's catalog and DNS don't tell Web from web, and routers trim the tags that they obey.
func (g Globs) Refusal(text string) string {
	text = fold(strings.TrimSpace(text))
	var only []string
	matched := false
	for i := range g.globs {
		one := &g.globs[i]
		switch {
		case one.denies && matches(one.folded, text):
			return fmt.Sprintf("pods of this namespace may not register %s (%s)", one.text, g.Source)
		case !one.denies:
			only, matched = append(only, one.text), matched || matches(one.folded, text)
		}
	}
	if matched || len(only) == 0 {
		return ""
	}
	return fmt.Sprintf("pods of this namespace may register only %s (%s)", Excerpt(strings.Join(only, ",")), g.Source)
}

// fold drops what doesn't count in a comparison, as Consul's catalog does.
func fold(text string) string { return strings.ToLower(text) }

// matches reports whether all of a text is what a pattern stands for.
func matches(pattern, text string) bool {
	p, t := []rune(pattern), []rune(text)
	i, k := 0, 0
	star, resume := -1, 0 // the last * so far, and where the text goes on after what it stands for
	for k < len(t) {
		switch {
		case i < len(p) && p[i] == '*':
			star, resume = i, k
			i++
		case i < len(p) && (p[i] == '?' || p[i] == t[k]):
			i, k = i+1, k+1
		case star >= 0:
			resume++
			i, k = star+1, resume
		default:
			return false
		}
	}
	for i < len(p) && p[i] == '*' {
		i++
	}
	return i == len(p)
}

// askedTag is a tag that a pod asks for, and where.
type askedTag struct {
	tag  string
	path *field.Path
	// note says where the tag comes from if the path doesn't.
	note string
}

// askTag notes where a tag is asked for.
func (r *reader) askTag(tag string, path *field.Path, note string) {
	r.tags = append(r.tags, askedTag{tag, path, note})
}

// NotAllowed returns an error for each service name and each tag that the pod may not register, of tags at most maxErrors. reg is
// what Parse or Lint made of the pod; of what that could not read nothing is said.
func (a *Allowed) NotAllowed(pod *corev1.Pod, reg *Registration) (services, tags field.ErrorList) {
	for i, service := range reg.Services {
		refusal := a.Services.Refusal(service.Name)
		if refusal == "" || service.Name == "" {
			continue
		}
		services = append(services, field.Forbidden(namePath(pod, i), fmt.Sprintf("service %q: %s", service.Name, refusal)))
	}
	r := &reader{}
	for _, asked := range reg.asked {
		if slices.ContainsFunc(placeholders, func(name string) bool { return strings.Contains(asked.tag, name) }) {
			continue // a name that is known when the pod runs, where its agentlet reviews the tag
		}
		if refusal := a.Tags.Refusal(asked.tag); refusal != "" {
			r.add(field.Forbidden(asked.path, fmt.Sprintf("tag %q%s: %s", Excerpt(asked.tag), asked.note, refusal)))
		}
	}
	return services, r.errs
}
