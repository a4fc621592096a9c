package daemon

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAProgramRunsUntilStop(t *testing.T) {
	ready := 0
	d, err := Start(t.Context(), func(context.Context) error {
		if ready++; ready < 3 {
			return errors.New("not yet")
		}
		return nil
	}, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	if ready != 3 {
		t.Errorf("asked %d times whether it is ready", ready)
	}
	if err := d.Stop(); err != nil {
		t.Error(err)
	}
}

func TestWhatAProgramSaidAtItsEndIsTold(t *testing.T) {
	_, err := Start(t.Context(), func(context.Context) error { return errors.New("not yet") }, "sh", "-c", "echo broken; exit 1")
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the error is %v", err)
	}
}

func TestAProgramThatNeverGetsReadyIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Start(ctx, func(context.Context) error { cancel(); return errors.New("not yet") }, "sleep", "600")
	if err == nil || !strings.Contains(err.Error(), "not yet") {
		t.Errorf("the error is %v", err)
	}
}

func TestListening(t *testing.T) {
	address, err := FreeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := Listening(address)(t.Context()); err == nil {
		t.Errorf("somebody listens at %s", address)
	}
}
