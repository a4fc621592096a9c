// Package daemon runs a program beside a test until it is stopped.
package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// Daemon is a program that runs until Stop.
type Daemon struct {
	command *exec.Cmd
	output  bytes.Buffer
	ended   chan struct{}
}

// Start starts a program, and waits up to 30 seconds until ready returns nil.
func Start(ctx context.Context, ready func(context.Context) error, program string, args ...string) (*Daemon, error) {
	d := &Daemon{command: exec.Command(program, args...), ended: make(chan struct{})} //nolint:noctx // Stop ends it
	d.command.Stdout, d.command.Stderr = &d.output, &d.output
	if err := d.command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.name(), err)
	}
	go func() {
		defer close(d.ended)
		_ = d.command.Wait() // its output says how it ended
	}()
	if err := d.await(ctx, ready); err != nil {
		return nil, errors.Join(err, d.Stop())
	}
	return d, nil
}

func (d *Daemon) name() string { return filepath.Base(d.command.Path) }

func (d *Daemon) await(ctx context.Context, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		select {
		case <-d.ended:
			return fmt.Errorf("%s ended: %s", d.name(), d.output.String())
		default:
		}
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", d.name(), err)
		case <-ticker.C:
		}
	}
}

// Stop ends the process and waits for it.
func (d *Daemon) Stop() error {
	_ = d.command.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("%s does not end", d.name()), d.command.Process.Kill())
	}
}

// FreeAddress returns a loopback address on which no program listens now.
func FreeAddress(ctx context.Context) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return listener.Addr().String(), listener.Close()
}

// Listening returns a ready function for Start: the program accepts connections at an address.
func Listening(address string) func(context.Context) error {
	return func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}
}
