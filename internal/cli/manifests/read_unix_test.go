//go:build unix

package manifests

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestAnInterruptEndsARead has a standard input and a named pipe that give nothing.
func TestAnInterruptEndsARead(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // so that the read ends, too
		if end, err := os.OpenFile(pipe, os.O_RDWR, 0); err == nil {
			_ = end.Close()
		}
	})
	silent, end := io.Pipe()
	defer end.Close()
	for _, name := range []string{Stdin, pipe} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		if _, _, err := Read(ctx, []string{name}, false, silent); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
