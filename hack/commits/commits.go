// Package commits holds commit messages to the form that CONTRIBUTING.md asks for.
package commits

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxSubject is how long a subject may be, in characters: longer ones are cut in lists of commits.
const maxSubject = 72

// dependencies is the area of Renovate's commits. Modules' names are as long as they are.
const dependencies = "deps"

// subject matches AREA: SUBJECT. An area is a folder, a program or a topic; there may be several.
var subject = regexp.MustCompile(`^([a-z0-9][A-Za-z0-9 ,./_-]*): (\S.*)$`)

// scissors begin the part of a message's file that git cuts off: `git commit -v` shows the difference there.
const scissors = "# ------------------------ >8 ------------------------"

// Check returns what is wrong with a message. Lines that begin with # are comments of git's, and it drops empty lines at the
// beginning.
func Check(message string) error {
	var lines []string
	for line := range strings.Lines(message) {
		line = strings.TrimRight(line, " \t\r\n")
		if line == scissors {
			break
		}
		if !strings.HasPrefix(line, "#") && (line != "" || len(lines) > 0) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return errors.New("the message is empty: want AREA: SUBJECT")
	}
	var wrong []error
	first := lines[0]
	match := subject.FindStringSubmatch(first)
	if match == nil {
		wrong = append(wrong, fmt.Errorf("%q: want AREA: SUBJECT, such as \"webhook: refuse bodies over 3 MiB\"", first))
	}
	if n := utf8.RuneCountInString(first); n > maxSubject && (match == nil || match[1] != dependencies) {
		wrong = append(wrong, fmt.Errorf("%q has %d characters: want %d at most", first, n, maxSubject))
	}
	if strings.HasSuffix(first, ".") {
		wrong = append(wrong, fmt.Errorf("%q ends with a full stop: want none", first))
	}
	if len(lines) > 1 && lines[1] != "" {
		wrong = append(wrong, fmt.Errorf("%q follows the subject at once: want an empty line between them", lines[1]))
	}
	return errors.Join(wrong...)
}

// ErrNoHistory means that the commits since the default branch can't be told, as in a shallow clone.
var ErrNoHistory = errors.New("no history to look at")

// rule is a file that came with the form. What was committed before is not held to it.
const rule = "hack/commits/commits.go"

// New checks the commits that a repository's HEAD has beyond its default branch, merges left out, and returns how many there are.
func New(ctx context.Context, root string) (n int, err error) {
	base, err := forked(ctx, root)
	if err != nil {
		return 0, err
	}
	came, err := git(ctx, root, "log", "--diff-filter=A", "--format=^%H", "--", rule)
	if err != nil {
		return 0, err
	}
	args := []string{"log", "--no-merges", "--format=%h%n%B%x00", base + "..HEAD"}
	out, err := git(ctx, root, append(args, strings.Fields(came)...)...)
	if err != nil {
		return 0, err
	}
	var wrong []error
	for entry := range strings.SplitSeq(out, "\x00") {
		hash, message, found := strings.Cut(strings.TrimPrefix(entry, "\n"), "\n")
		if !found {
			continue
		}
		n++
		if err := Check(message); err != nil {
			wrong = append(wrong, fmt.Errorf("commit %s: %w", hash, err))
		}
	}
	return n, errors.Join(wrong...)
}

// forked returns the commit at which HEAD left the default branch: the one that the remote names, or else main.
func forked(ctx context.Context, root string) (string, error) {
	branches := []string{"origin/main", "main"}
	if name, err := git(ctx, root, "symbolic-ref", "--short", "refs/remotes/origin/HEAD"); err == nil {
		branches = append([]string{name}, branches...)
	}
	var failure error
	for _, branch := range branches {
		base, err := git(ctx, root, "merge-base", branch, "HEAD")
		if err == nil {
			return base, nil
		}
		failure = err
	}
	return "", fmt.Errorf("%w: %w", ErrNoHistory, failure)
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir = root
	out, err := command.Output()
	if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
