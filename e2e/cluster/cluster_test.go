package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/agentlet/agentlet/hack/toolchain"
)

func testLayout(t *testing.T) layout {
	t.Helper()
	return layout{name: "test", dir: t.TempDir()}
}

func TestOptions(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		ok      bool
	}{
		"zero":               {Options{}, true},
		"three servers":      {Options{ConsulServers: 3}, true},
		"two servers":        {Options{ConsulServers: 2}, false},
		"ten nodes":          {Options{Nodes: 10}, false},
		"unknown consul":     {Options{Consul: "pods"}, false},
		"consul under MPL":   {Options{ConsulTools: toolchain.ConsulMPL}, true},
		"other consul tools": {Options{ConsulTools: "consul-1.2"}, false},
		"name with dash":     {Options{Name: "a-b"}, false},
		"name as path":       {Options{Name: "../x"}, false},
		"name too long":      {Options{Name: "abcdefghijk"}, false},
		"longest name":       {Options{Name: "abcdefghij"}, true},
		"upper case in name": {Options{Name: "E2E"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			options, err := test.options.complete()
			if (err == nil) != test.ok {
				t.Fatalf("complete = %v, want ok = %v", err, test.ok)
			}
			if test.ok && (options.Nodes != 2 || options.Consul != ConsulAgents || options.Log == nil) {
				t.Errorf("defaults are missing: %+v", options)
			}
		})
	}
}

func TestInterfaceNamesFitTheKernel(t *testing.T) {
	l := layout{name: "abcdefghij"}
	for _, name := range []string{l.bridge(), l.hostLink(9), l.peerLink(9)} {
		if len(name) > 15 {
			t.Errorf("%s has %d characters, the kernel takes 15", name, len(name))
		}
	}
}

func TestAttachFindsWhatWasSaved(t *testing.T) {
	options, err := Options{
		Name: "test", Nodes: 3, ConsulServers: 3, ConsulConfig: map[string]any{"raft_protocol": 3},
	}.complete()
	if err != nil {
		t.Fatal(err)
	}
	l := testLayout(t)
	if _, err := loadCluster(l); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("load without state = %v, want ErrNotRunning", err)
	}
	saved := newCluster(l, options, toolchain.Tools{toolchain.Kubernetes: "/k", toolchain.Consul: "/c"})
	if err := saved.saveState(); err != nil {
		t.Fatal(err)
	}
	loaded, err := loadCluster(l)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := sameOptions(loaded.Options, options); err != nil || !same {
		t.Errorf("options came back as %+v, %v", loaded.Options, err)
	}
	before, after := saved.Processes(), loaded.Processes()
	if len(before) != 4+3+3*4 || len(after) != len(before) {
		t.Fatalf("%d processes were saved, %d loaded", len(before), len(after))
	}
	for i := range before {
		if before[i].PIDFile != after[i].PIDFile || !slices.Equal(before[i].Args, after[i].Args) {
			t.Errorf("process %s came back as %+v", before[i].Name, after[i])
		}
	}
	if got := len(loaded.ConsulServers()); got != 3 {
		t.Errorf("%d consul servers, want 3", got)
	}

	if err := os.WriteFile(l.stateFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCluster(l); err == nil || errors.Is(err, ErrNotRunning) {
		t.Errorf("load of a broken state = %v", err)
	}
}

func TestProcessNamesAreUnique(t *testing.T) {
	options, err := Options{Nodes: 9, ConsulServers: 3}.complete()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, p := range newCluster(testLayout(t), options, toolchain.Tools{}).Processes() {
		if files[p.PIDFile] || files[p.LogFile] {
			t.Errorf("two processes share the files of %s", p.Name)
		}
		files[p.PIDFile], files[p.LogFile] = true, true
	}
}

func TestConsulConfigIsMerged(t *testing.T) {
	file := filepath.Join(t.TempDir(), "consul.json")
	options := Options{ConsulServers: 1, ConsulConfig: map[string]any{"leave_on_terminate": true}}
	if err := writeConsulConfig(file, options, map[string]any{"node_name": "n"}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"leave_on_terminate": true`, `"node_name": "n"`, `"10.99.0.1"`, `2000`} {
		if !bytes.Contains(content, []byte(want)) {
			t.Errorf("configuration lacks %s:\n%s", want, content)
		}
	}
}

func TestMountsBelow(t *testing.T) {
	const mountinfo = `22 1 0:20 / / rw - ext4 /dev/root rw
30 22 0:30 / /cache/e2e/node1/shm rw - tmpfs shm rw
31 22 0:31 / /cache/e2e2/node1/shm rw - tmpfs shm rw
32 22 0:32 / /cache/e2e/with\040space rw - tmpfs shm rw
33 22 0:33 / /cache/e2e rw - tmpfs shm rw
`
	got, err := mountsBelow(strings.NewReader(mountinfo), "/cache/e2e")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/cache/e2e/node1/shm", "/cache/e2e/with space"}; !slices.Equal(got, want) {
		t.Errorf("mounts %q, want %q", got, want)
	}
}

func TestMemberOf(t *testing.T) {
	for membership, want := range map[string]bool{
		"9:pids:/agentlet-e2e/node1/kubepods/x\n8:memory:/\n": true,
		"0::/agentlet-e2e\n":               true,
		"0::/agentlet-e2e2/node1\n":        false,
		"0::/user.slice/agentlet-e2e/x\n":  false,
		"":                                 false,
		"malformed":                        false,
		"1:a:b:/agentlet-e2e/colon:path\n": false,
	} {
		if got := memberOf(membership, "agentlet-e2e"); got != want {
			t.Errorf("memberOf(%q) = %v, want %v", membership, got, want)
		}
	}
}

func TestPollTellsTheLastError(t *testing.T) {
	cause := errors.New("cause")
	tries := 0
	err := poll(t.Context(), func(context.Context) error {
		if tries++; tries < 3 {
			return cause
		}
		return nil
	})
	if err != nil || tries != 3 {
		t.Errorf("poll = %v after %d tries", err, tries)
	}
	if err := poll(t.Context(), func(context.Context) error { return permanent(cause) }); !errors.Is(err, cause) {
		t.Errorf("poll = %v, want the permanent error at once", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), pollInterval)
	defer cancel()
	err = poll(ctx, func(context.Context) error { return cause })
	if !errors.Is(err, cause) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("poll = %v, want the deadline and the last error", err)
	}
}

func TestSmallDiskKeepsWhatIsThere(t *testing.T) {
	if err := requireRoot(); err != nil {
		t.Skip(err)
	}
	folder := filepath.Join(t.TempDir(), "services")
	write := func(name string) error { return os.WriteFile(filepath.Join(folder, name), []byte(name), 0o600) }
	if err := errors.Join(os.Mkdir(folder, 0o755), write("old")); err != nil {
		t.Fatal(err)
	}
	if err := moveToDisk(folder); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	if small, err := mounted(folder); err != nil || !small {
		t.Fatalf("mounted = %v, %v", small, err)
	}
	if err := fillFolder(folder); err != nil {
		t.Fatal(err)
	}
	if err := write("full"); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("write on a full disk = %v", err)
	}
	if err := errors.Join(os.Remove(filepath.Join(folder, filler)), write("new"), os.Remove(filepath.Join(folder, "old"))); err != nil {
		t.Fatal(err)
	}
	if err := moveFromDisk(folder); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	// The file "full" is there, but empty: creating a file needs no block.
	if !slices.Contains(names, "new") || slices.Contains(names, "old") || slices.Contains(names, filler) {
		t.Errorf("the folder has %v afterwards, want what the disk had", names)
	}
	if small, err := mounted(folder); err != nil || small {
		t.Errorf("still mounted: %v, %v", small, err)
	}
}
