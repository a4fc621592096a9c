// Package corpus holds manifests of many shapes, each with what is expected of it. Tests put each of them through the plugin,
// both webhooks and a real API server. Only tests use it.
//
// A file in manifests holds cases; a new one is found by itself. A case begins with a line that names it, and goes on to the next
// one. It has a header, and then what is read: documents as kubectl takes them.
//
//	### a web server
//	# expect: injected
//	apiVersion: v1
//	kind: Pod
//
// The lines of the header are the following. What is expected is complete: an error or a warning beyond it is a failure, too.
//
//	# expect: injected              every pod and pod template gets the agentlet
//	# expect: left alone: REASON    none does, for this reason of the injector's
//	# expect: denied: WORDS         each is refused; one line for each error, with some of its words
//	# expect: unread: WORDS         it can't be read; one line for each error
//	# expect: no pod                there is neither a pod nor a template
//	# expect: warning: WORDS        beside one of these: one line for each warning
//	# expect KIND/NAME: …           the same of one object, where there are several
//	# flags: --dialect=consul-k8s   flags of the plugin and the webhook
//
// Where not all agree, one of these words stands for expect: what it says counts for that one instead, and its warnings are its
// alone.
//
//	cli         the plugin's inject
//	pods        the webhook for pods
//	workloads   the webhook for objects with a template
//	api         the API server itself, which may refuse what is no valid object: # api: refuses: WORDS, or warn of what we add
//	explain     text that the plugin's explain has to say
package corpus

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed manifests
var files embed.FS

// Who may be expected to say something of its own.
const (
	Everyone  = "expect"
	CLI       = "cli"
	Pods      = "pods"
	Workloads = "workloads"
	API       = "api"
	explain   = "explain"
	flags     = "flags"
)

var keys = []string{Everyone, CLI, Pods, Workloads, API, explain, flags}

// Outcome is what is to become of a pod.
type Outcome string

// The outcomes.
const (
	Injected  Outcome = "injected"
	LeftAlone Outcome = "left alone"
	Denied    Outcome = "denied"
	Unread    Outcome = "unread"
	NoPod     Outcome = "no pod"
	Accepted  Outcome = "accepted" // by the webhook for workloads, where the pods will be denied
	Refused   Outcome = "refuses"
)

var outcomes = []Outcome{Injected, LeftAlone, Denied, Unread, NoPod, Accepted, Refused}

// Case is a stream of documents with what is expected of it.
type Case struct {
	// Name is the file's and the case's.
	Name string
	// Text is what is read.
	Text string
	// Flags of the plugin and the webhook.
	Flags []string
	// Explained are texts that explain says.
	Explained []string

	expected []expectation
}

// expectation is a line of a header.
type expectation struct {
	who, object string
	outcome     Outcome // empty for a warning
	words       string
}

// Read returns all cases, sorted by their names.
func Read() (cases []Case, err error) {
	seen := map[string]bool{}
	err = fs.WalkDir(files, "manifests", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := files.ReadFile(file)
		if err != nil {
			return err
		}
		found, err := parse(strings.TrimSuffix(path.Base(file), path.Ext(file)), string(text))
		for i := range found {
			if seen[found[i].Name] {
				return fmt.Errorf("%s: two cases have the name %q", file, found[i].Name)
			}
			seen[found[i].Name] = true
		}
		cases = append(cases, found...)
		return err
	})
	return cases, err
}

// begins a case.
const begins = "### "

// parse reads the cases of a file.
func parse(file, text string) (cases []Case, err error) {
	inHeader := false
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, begins); ok {
			cases, inHeader = append(cases, Case{Name: file + "/" + strings.TrimSpace(name)}), true
			continue
		}
		if len(cases) == 0 {
			return nil, fmt.Errorf("%s: the first line doesn't name a case: %q", file, line)
		}
		c := &cases[len(cases)-1]
		if inHeader {
			if inHeader, err = c.header(strings.TrimSpace(line)); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", c.Name, strings.TrimSpace(line), err)
			}
			if inHeader {
				continue
			}
		}
		c.Text += line
	}
	for i := range cases {
		if len(cases[i].expected) == 0 {
			return nil, fmt.Errorf("%s: nothing is expected of it", cases[i].Name)
		}
	}
	return cases, nil
}

// header reads a line of a header; ok is false for one that is none.
func (c *Case) header(line string) (ok bool, err error) {
	said, found := strings.CutPrefix(line, "# ")
	key, words, _ := strings.Cut(said, ": ")
	key, object, _ := strings.Cut(key, " ")
	if !found || !slices.Contains(keys, key) {
		return false, nil
	}
	switch key {
	case flags:
		c.Flags = append(c.Flags, strings.Fields(words)...)
		return true, nil
	case explain:
		c.Explained = append(c.Explained, words)
		return true, nil
	}
	what, rest, _ := strings.Cut(words, ": ")
	e := expectation{who: key, object: object, words: rest}
	if what != "warning" {
		if e.outcome = Outcome(what); !slices.Contains(outcomes, e.outcome) {
			return false, fmt.Errorf("want warning or one of %q", outcomes)
		}
	}
	if rest == "" && slices.Contains([]Outcome{"", LeftAlone, Denied, Unread, Refused}, e.outcome) {
		return false, fmt.Errorf("%s of what?", what)
	}
	c.expected = append(c.expected, e)
	return true, nil
}

// Outcome returns what one of them is to make of an object, with the words of each error, or of the reason; empty where nothing
// is said.
func (c *Case) Outcome(who, kind, name string) (outcome Outcome, words []string) {
	for _, by := range [][2]string{{who, kind + "/" + name}, {who, ""}, {Everyone, kind + "/" + name}, {Everyone, ""}} {
		for _, e := range c.expected {
			if e.outcome == "" || e.who != by[0] || e.object != by[1] {
				continue
			}
			outcome = e.outcome
			if e.words != "" {
				words = append(words, e.words)
			}
		}
		if outcome != "" {
			return outcome, words
		}
	}
	return "", nil
}

// Errors returns the words of all errors that the plugin is to find.
func (c *Case) Errors() (words []string) {
	own := slices.ContainsFunc(c.expected, func(e expectation) bool { return e.who == CLI && e.outcome != "" })
	for _, e := range c.expected {
		if (e.outcome == Denied || e.outcome == Unread) && (e.who == CLI || e.who == Everyone && !own) {
			words = append(words, e.words)
		}
	}
	return words
}

// Warnings returns the words of all warnings that some of them are to give.
func (c *Case) Warnings(who ...string) (words []string) {
	for _, e := range c.expected {
		if e.outcome == "" && (slices.Contains(who, e.who) || e.who == Everyone) {
			words = append(words, e.words)
		}
	}
	return words
}

// Unmatched compares texts with the words that are expected in them, each in a text of its own. It returns the words that no text
// has, and the texts that nobody expected.
func Unmatched(words, texts []string) (missing, unexpected []string) {
	unexpected = slices.Clone(texts)
	for _, want := range words {
		i := slices.IndexFunc(unexpected, func(text string) bool { return strings.Contains(text, want) })
		if i < 0 {
			missing = append(missing, want)
			continue
		}
		unexpected = slices.Delete(unexpected, i, i+1)
	}
	return missing, unexpected
}
