package commits

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct{ message, want string }{
		"subject alone":        {"docs: split long sentences\n", ""},
		"with a body":          {"agentlet/consul: ask once\n\nTwice was a write too many.\n", ""},
		"two areas":            {"webhook, chart: count refusals\n", ""},
		"git's comments":       {"# Please enter\ndocs: a\n# more\n", ""},
		"git commit -v":        {"docs: a\n# Please enter\n" + scissors + "\n# Do not modify\ndiff --git a/x b/x\n", ""},
		"an empty line first":  {"\ndocs: a\n\n# Please enter\n", ""},
		"empty lines alone":    {"\n \n# Please enter\n", "empty"},
		"72 characters":        {"docs: " + strings.Repeat("ü", 66), ""},
		"73 characters":        {"docs: " + strings.Repeat("ü", 67), "73 characters"},
		"Renovate's":           {"deps: update module " + strings.Repeat("x", 70), ""},
		"no area":              {"Split long sentences", "want AREA: SUBJECT"},
		"no subject":           {"docs: ", "want AREA: SUBJECT"},
		"no space":             {"docs:split", "want AREA: SUBJECT"},
		"an area in capitals":  {"Docs: split", "want AREA: SUBJECT"},
		"to be squashed":       {"fixup! docs: split", "want AREA: SUBJECT"},
		"a full stop":          {"docs: split.", "full stop"},
		"a body without space": {"docs: split\nthem", "empty line"},
		"comments alone":       {"# nothing\n", "empty"},
		"nothing":              {"", "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(test.message)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// repository is a new one with a commit on its branch main, and a function that calls git there.
func repository(t *testing.T) (root string, run func(args ...string)) {
	t.Helper()
	root = t.TempDir()
	run = func(args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@b.example"}, args...)...)
		command.Dir = root
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %q: %v: %s", args, err, out)
		}
	}
	run("init", "-q", "-b", "main")
	run("commit", "-q", "--allow-empty", "-m", "Before there was a form")
	return root, run
}

func TestNewLooksAtABranchsOwnCommits(t *testing.T) {
	root, run := repository(t)
	if n, err := New(t.Context(), root); n != 0 || err != nil {
		t.Errorf("on main: %d commits, %v", n, err)
	}
	run("switch", "-q", "-c", "topic")
	run("commit", "-q", "--allow-empty", "-m", "docs: good", "-m", "It has a body.\n\nOf two paragraphs.")
	if n, err := New(t.Context(), root); n != 1 || err != nil {
		t.Errorf("a good one: %d commits, %v", n, err)
	}
	run("commit", "-q", "--allow-empty", "-m", "Bad")
	run("commit", "-q", "--allow-empty", "-m", "docs: good again")
	n, err := New(t.Context(), root)
	if n != 3 || err == nil || !strings.Contains(err.Error(), `"Bad"`) || strings.Contains(err.Error(), "good") {
		t.Errorf("a bad one between: %d commits, %v", n, err)
	}
}

func TestNewLeavesMergesOut(t *testing.T) {
	root, run := repository(t)
	run("switch", "-q", "-c", "topic")
	run("commit", "-q", "--allow-empty", "-m", "docs: good")
	run("switch", "-q", "-c", "other", "main")
	run("merge", "-q", "--no-ff", "-m", "Merge branch 'topic'", "topic")
	if n, err := New(t.Context(), root); n != 1 || err != nil {
		t.Errorf("%d commits, %v", n, err)
	}
}

func TestNewLeavesOutWhatIsOlderThanTheRule(t *testing.T) {
	root, run := repository(t)
	run("switch", "-q", "-c", "topic")
	run("commit", "-q", "--allow-empty", "-m", "Bad, and from before")
	file := filepath.Join(root, filepath.FromSlash(rule))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run("add", rule)
	run("commit", "-q", "-m", "check: add the rule")
	run("commit", "-q", "--allow-empty", "-m", "Bad")
	if n, err := New(t.Context(), root); n != 1 || err == nil || !strings.Contains(err.Error(), `"Bad"`) {
		t.Errorf("%d commits, %v", n, err)
	}
}

func TestNewPrefersTheRemotesDefaultBranch(t *testing.T) {
	root, run := repository(t)
	run("update-ref", "refs/remotes/origin/trunk", "HEAD")
	run("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/trunk")
	run("commit", "-q", "--allow-empty", "-m", "Bad")
	if n, err := New(t.Context(), root); n != 1 || err == nil {
		t.Errorf("%d commits, %v", n, err)
	}
}

func TestNewWithoutHistory(t *testing.T) {
	root, run := repository(t)
	run("branch", "-m", "main", "topic")
	if _, err := New(t.Context(), root); !errors.Is(err, ErrNoHistory) {
		t.Errorf("without a default branch: %v", err)
	}
	if _, err := New(t.Context(), t.TempDir()); !errors.Is(err, ErrNoHistory) {
		t.Errorf("outside of a repository: %v", err)
	}
}

// TestHook commits with `make hooks` turned on, which calls this repository's hook.
func TestHook(t *testing.T) {
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	root, run := repository(t)
	hooks, err := os.ReadFile(filepath.Join(here, "hack", "hooks", "commit-msg"))
	if err != nil {
		t.Fatal(err)
	}
	// The hook finds the check by the repository that it is in, and this one has none.
	if err := os.Symlink(filepath.Join(here, "hack"), filepath.Join(root, "hack")); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "commit-msg"), hooks, 0o700); err != nil {
		t.Fatal(err)
	}
	run("switch", "-q", "-c", "topic")
	run("config", "core.hooksPath", folder)
	run("commit", "-q", "--allow-empty", "-m", "docs: good")
	run("switch", "-q", "main")
	run("commit", "-q", "--allow-empty", "-m", "docs: another")
	run("merge", "-q", "--no-ff", "-m", "Merge branch 'topic'", "topic")
	command := exec.CommandContext(t.Context(), "git", "-c", "user.name=a", "-c", "user.email=a@b.example", "commit", "--allow-empty", "-m", "Bad")
	command.Dir = root
	if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), "want AREA: SUBJECT") {
		t.Errorf("a bad message: %v, %s", err, out)
	}
}
