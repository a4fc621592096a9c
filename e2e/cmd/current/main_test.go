package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// cleaned names the variable with the file that the program below writes once it is interrupted.
const cleaned = "AGENTLET_TEST_CLEANED"

// TestMain is also the program that TestInterrupted runs.
func TestMain(m *testing.M) {
	file := os.Getenv(cleaned)
	if file == "" {
		os.Exit(m.Run())
	}
	ctx, stop := interruptible(context.Background())
	fmt.Println("ready")
	<-ctx.Done()
	stop()
	fmt.Println("removing what was made")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		os.Exit(1)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		os.Exit(1)
	}
}

// TestInterrupted ends a program by each signal, without a reader of its output, and by a hangup after that. It must come to the removal nevertheless.
func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cleaned")
			program := exec.CommandContext(t.Context(), os.Args[0])
			program.Env = append(os.Environ(), cleaned+"="+file)
			out, err := program.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := program.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			if err := program.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := program.Wait(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("what was made is not removed: %v", err)
			}
		})
	}
}
