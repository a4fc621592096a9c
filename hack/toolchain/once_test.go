package toolchain

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestOnceStartsAnewAfterAKilledBuild(t *testing.T) {
	cache := t.TempDir()
	left := filepath.Join(cache, ".building-tool")
	if err := errors.Join(os.Mkdir(left, 0o755), os.WriteFile(filepath.Join(left, "half"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, "tool-1")
	err := once(t.Context(), io.Discard, folder, "tool", func(temporary string) error {
		return os.WriteFile(filepath.Join(temporary, "whole"), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(folder, "half")) || !exists(filepath.Join(folder, "whole")) || exists(left) {
		t.Error("what the killed build has left is in the cache")
	}
}

func TestOnceKeepsNothingOfAFailedBuild(t *testing.T) {
	cache, failure := t.TempDir(), errors.New("failed")
	folder := filepath.Join(cache, "tool-1")
	err := once(t.Context(), io.Discard, folder, "tool", func(temporary string) error {
		if exists(folder) {
			t.Error("the folder is there before it is complete")
		}
		return errors.Join(failure, os.WriteFile(filepath.Join(temporary, "half"), nil, 0o600))
	})
	if !errors.Is(err, failure) || exists(folder) || exists(filepath.Join(cache, ".building-tool")) {
		t.Errorf("error %v; the folder is there: %v", err, exists(folder))
	}
}

func TestOnceBuildsForAllWhoWait(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "tool-1")
	started, finish := make(chan struct{}), make(chan struct{})
	var first, second error
	var log bytes.Buffer
	var both sync.WaitGroup
	both.Go(func() {
		first = once(t.Context(), io.Discard, folder, "tool", func(string) error {
			close(started)
			<-finish
			return nil
		})
	})
	<-started
	both.Go(func() {
		second = once(t.Context(), io.MultiWriter(&log, closer(finish)), folder, "tool", func(string) error {
			return errors.New("built a second time")
		})
	})
	both.Wait()
	if first != nil || second != nil || log.String() != "waiting for another build of tools\n" {
		t.Errorf("errors %v and %v, log %q", first, second, &log)
	}
}

// closer closes the channel when something is written to it: once the second one waits, the first may end.
type closer chan struct{}

func (c closer) Write(p []byte) (int, error) {
	close(c)
	return len(p), nil
}
