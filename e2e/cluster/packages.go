package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const packagesTimeout = 10 * time.Minute

// debianPackages maps the programs that nodes need to the Debian packages that contain them.
var debianPackages = []struct{ program, name string }{
	{"containerd", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{"iptables", "iptables"},
	{"ip", "iproute2"},
	{"tc", "iproute2"},
	{"conntrack", "conntrack"},
	{"nsenter", "util-linux"},
	// curl is for the image of Consul; the official image has it too.
	{"curl", "curl"},
	{"jq", "jq"},
}

// cniFolders are the folders in which distributions install the CNI plugins.
var cniFolders = []string{"/usr/lib/cni", "/opt/cni/bin"}

func cniPlugins() (string, bool) {
	for _, dir := range cniFolders {
		if _, err := os.Stat(dir + "/bridge"); err == nil {
			return dir, true
		}
	}
	return "", false
}

func missingPackages() []string {
	missing := []string{}
	for _, p := range debianPackages {
		if _, err := lookPath(p.program); err != nil {
			missing = append(missing, p.name)
		}
	}
	if _, ok := cniPlugins(); !ok {
		missing = append(missing, "containernetworking-plugins")
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// CanInstallPackages returns an error if packages are missing that Up could not install. It is for those who build for minutes
// before they call Up.
func CanInstallPackages() error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := lookPath("apt-get"); err != nil {
		return fmt.Errorf("install packages: this is not Debian; install by hand: %s", strings.Join(missing, " "))
	}
	return nil
}

// ensurePackages installs the packages that are missing on the machine.
func ensurePackages(ctx context.Context) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if err := CanInstallPackages(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, packagesTimeout)
	defer cancel()
	if err := run(ctx, "apt-get", "update"); err != nil {
		return fmt.Errorf("update package lists: %w", err)
	}
	args := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	if err := run(ctx, "apt-get", args...); err != nil {
		return fmt.Errorf("install packages: %w", err)
	}
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("install packages: still missing: %s", strings.Join(missing, " "))
	}
	return nil
}

func requireRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("the cluster needs root for network namespaces, cgroups and mounts (sudo -E)")
	}
	return nil
}
