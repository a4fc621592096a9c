package toolchain

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository makes a repository with one commit, whose Makefile makes an "image" with the version in it and counts its runs.
func repository(t *testing.T, makefile string) (root, commit string) {
	t.Helper()
	root = t.TempDir()
	for file, content := range map[string]string{"Makefile": makefile, "charts/agentlet/Chart.yaml": "name: agentlet\n"} {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		command := exec.CommandContext(t.Context(), "git", append([]string{"-C", root, "-c", "user.name=t", "-c", "user.email=t@t.example"}, args...)...)
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "--quiet")
	git("add", ".")
	git("commit", "--quiet", "--no-gpg-sign", "-m", "older")
	commit = git("rev-parse", "HEAD")
	if err := os.WriteFile(filepath.Join(root, "Makefile"), []byte("image:\n\tfalse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return root, commit
}

func TestCommitIsBuiltOnce(t *testing.T) {
	t.Setenv("AGENTLET_CACHE", t.TempDir())
	runs := filepath.Join(t.TempDir(), "runs")
	root, commit := repository(t, "image:\n\tmkdir .out\n\tprintf %s $(VERSION) >.out/image.tar\n\techo x >>"+runs+"\n")
	for range 2 {
		older, err := EnsureCommit(t.Context(), io.Discard, root, commit)
		if err != nil {
			t.Fatal(err)
		}
		image, err := os.ReadFile(older.Image)
		if err != nil || string(image) != older.Version || !strings.HasPrefix(commit, older.Version) {
			t.Errorf("the image holds %q, %v; want the version %s of %s", image, err, older.Version, commit)
		}
		if !exists(filepath.Join(older.Chart, "Chart.yaml")) {
			t.Errorf("%s has no chart", older.Chart)
		}
	}
	if built, err := os.ReadFile(runs); err != nil || string(built) != "x\n" {
		t.Errorf("builds: %q, %v; want one", built, err)
	}
}

func TestCommitThatIsNotThere(t *testing.T) {
	t.Setenv("AGENTLET_CACHE", t.TempDir())
	root, commit := repository(t, "image:\n\tfalse\n")
	shallow := filepath.Join(t.TempDir(), "shallow")
	if out, err := exec.CommandContext(t.Context(), "git", "clone", "--quiet", "--depth=1", "file://"+root, shallow).CombinedOutput(); err != nil {
		t.Fatalf("git clone: %v\n%s", err, out)
	}
	const another = "0123456789012345678901234567890123456789"
	for name, test := range map[string]struct {
		root, commit string
		noHistory    bool
		says         string
	}{
		"not in the history": {root: root, commit: another, says: "the whole history has no commit " + another + ": it was rewritten"},
		"shallow clone":      {root: shallow, commit: another, noHistory: true, says: "git fetch --unshallow"},
		"no repository":      {root: t.TempDir(), commit: commit, noHistory: true, says: "the repository's history is missing"},
		"failing build":      {root: root, commit: commit, says: "make -C"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := EnsureCommit(t.Context(), io.Discard, test.root, test.commit)
			if err == nil || errors.Is(err, ErrNoHistory) != test.noHistory || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error = %v, want %q; without history: %v", err, test.says, test.noHistory)
			}
		})
	}
	left, err := os.ReadDir(filepath.Join(os.Getenv("AGENTLET_CACHE"), "commits"))
	if err != nil || len(left) != 1 || left[0].Name() != ".lock" {
		t.Errorf("failed builds left %v, %v; want the lock alone", left, err)
	}
}

// TestInterruptedBuildEndsWhatItStarted: what make has started may not go on, and write into a folder that is removed.
func TestInterruptedBuildEndsWhatItStarted(t *testing.T) {
	folder := t.TempDir()
	started, ended := filepath.Join(folder, "started"), filepath.Join(folder, "ended")
	makefile := "image:\n\ttouch " + started + "; sleep 5; touch " + ended + "\n"
	if err := os.WriteFile(filepath.Join(folder, "Makefile"), []byte(makefile), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for !exists(started) && t.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	began := time.Now()
	if err := runQuietly(ctx, "make", "-C", folder, "image"); err == nil || exists(ended) || time.Since(began) > 4*time.Second {
		t.Errorf("error %v after %s; make went on: %v", err, time.Since(began), exists(ended))
	}
}
