// Package logind imitates systemd-logind on its own D-Bus, as far as a kubelet needs it. A kubelet whose DBUS_SYSTEM_BUS_ADDRESS
// is Address takes an inhibitor lock, and shuts its node down gracefully when Shutdown announces it.
package logind

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/prop"
)

const (
	name    = "org.freedesktop.login1"
	manager = name + ".Manager"
	object  = dbus.ObjectPath("/org/freedesktop/login1")
)

// maxDelay is how long an inhibitor may delay a shutdown. A kubelet that needs more would write a configuration below /etc.
const maxDelay = 10 * time.Minute

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
`

// Logind is a running logind.
type Logind struct {
	// Address is the bus's address, for DBUS_SYSTEM_BUS_ADDRESS.
	Address string

	bus  *dbus.Conn
	held chan *os.File
}

// Start runs a bus in the folder, with a logind on it, until ctx ends. It needs dbus-daemon.
func Start(ctx context.Context, folder string) (*Logind, error) {
	socket, file := filepath.Join(folder, "bus"), filepath.Join(folder, "bus.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		return nil, fmt.Errorf("write the bus's configuration: %w", err)
	}
	daemon := exec.CommandContext(ctx, "dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--config-file="+file)
	if err := daemon.Start(); err != nil {
		return nil, fmt.Errorf("start dbus-daemon: %w", err)
	}
	go func() { _ = daemon.Wait() }()
	l := &Logind{Address: "unix:path=" + socket, held: make(chan *os.File, 4)}
	var err error
	for range 100 {
		if l.bus, err = dbus.Connect(l.Address); err == nil {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.bus.Close() })
	if err := l.serve(); err != nil {
		return nil, fmt.Errorf("play logind: %w", err)
	}
	return l, nil
}

func (l *Logind) serve() error {
	_, err := prop.Export(l.bus, object, prop.Map{manager: {
		"InhibitDelayMaxUSec": {Value: uint64(maxDelay / time.Microsecond)},
	}})
	if err != nil {
		return err
	}
	if err := l.bus.Export(inhibitor{l.held}, object, manager); err != nil {
		return err
	}
	reply, err := l.bus.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = errors.New("the bus has one already")
	}
	return err
}

// inhibitor is the object that the bus exports.
type inhibitor struct{ held chan<- *os.File }

// Inhibit returns a lock, which is one end of a pipe.
func (i inhibitor) Inhibit(_, _, _, _ string) (dbus.UnixFD, *dbus.Error) {
	reader, writer, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	i.held <- reader
	// Close our copy of the write end, which would keep the lock held. The reply, which needs it, is sent after this method
	// returns.
	time.AfterFunc(time.Second, func() { _ = writer.Close() })
	return dbus.UnixFD(writer.Fd()), nil
}

// Shutdown announces a shutdown of the machine, and waits until the kubelet has released its lock.
func (l *Logind) Shutdown(ctx context.Context) error {
	var lock *os.File
	select {
	case lock = <-l.held:
	case <-ctx.Done():
		return fmt.Errorf("no kubelet holds a lock: %w", ctx.Err())
	}
	defer func() { _ = lock.Close() }()
	if err := l.bus.Emit(object, manager+".PrepareForShutdown", true); err != nil {
		return fmt.Errorf("tell of the shutdown: %w", err)
	}
	released := make(chan struct{})
	go func() {
		defer close(released)
		_, _ = lock.Read(make([]byte, 1)) // the end of file: the lock was released
	}()
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the kubelet keeps its lock: %w", ctx.Err())
	}
}
