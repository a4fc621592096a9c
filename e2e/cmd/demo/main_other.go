//go:build !linux

// Command demo demonstrates Agentlet on a real cluster. It needs Linux.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "demo: needs Linux with root, for network namespaces, cgroups and mounts; this is %s\n", runtime.GOOS)
	os.Exit(1)
}
