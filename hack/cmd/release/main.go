// Command release builds a release twice, the second time with an empty build cache, and fails unless both are equal. Then it
// signs it, if it is given a key:
//
//	release -version 1.2.3 -url https://downloads.example/agentlet/1.2.3 -key signing.pem
//
// With -latest it builds nothing. It reads the tags of all releases, one a line, and prints whether this version is the latest:
//
//	release -version 1.2.3 -latest <tags
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/agentlet/agentlet/hack/release"
	"github.com/agentlet/agentlet/hack/toolchain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := release.Options{Created: time.Unix(0, 0)}
	flag.StringVar(&o.Version, "version", "", "version, such as 1.2.3")
	flag.StringVar(&o.LDFlags, "ldflags", "", "flags of the Go linker")
	flag.StringVar(&o.Out, "o", "dist", "folder for the release; what is in it goes")
	flag.StringVar(&o.URL, "url", "", "folder in which the plugin's archives will be found; without it there is no manifest for krew")
	keyFile := flag.String("key", "", "file with the private key that the checksums are signed with; without it nothing is signed")
	once := flag.Bool("once", false, "don't make it a second time to compare")
	latest := flag.Bool("latest", false, "read the tags of releases, print whether this version is the latest, and build nothing")
	flag.Parse()
	if *latest {
		return printLatest(o.Version)
	}
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH=%q: want seconds since 1970", text)
		}
		o.Created = time.Unix(seconds, 0)
	}
	var key []byte
	if *keyFile != "" { // read now, as the build takes minutes
		var err error
		if key, err = os.ReadFile(*keyFile); err != nil {
			return fmt.Errorf("read signing key: %w", err)
		}
		if err := release.CheckKey(key); err != nil {
			return err
		}
	}
	root, err := toolchain.Root()
	if err != nil {
		return err
	}
	if key != nil {
		if err := release.CheckTree(ctx, root); err != nil {
			return err
		}
	}
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Helm)
	if err != nil {
		return err
	}
	o.Root, o.Helm = root, tools.Program(toolchain.Helm, "helm")
	if err := release.Build(ctx, o); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(o.Out, release.Checksums))
	if err != nil {
		return fmt.Errorf("read checksums: %w", err)
	}
	fmt.Print(string(sums))
	if !*once {
		again, err := repeat(ctx, o)
		if err != nil {
			return fmt.Errorf("second build: %w", err)
		}
		if err := compare(string(sums), again); err != nil {
			return err
		}
	}
	if o.URL == "" {
		fmt.Println("no manifest for krew: want URL=, the folder in which the archives will be found")
	}
	if key == nil {
		fmt.Println("nothing is signed: want KEY=, a file with a private key")
		return nil
	}
	return release.Sign(o.Out, o.Version, key)
}

// printLatest prints true if the version is the latest of the releases whose tags are read, and false otherwise.
func printLatest(version string) error {
	tags, err := io.ReadAll(os.Stdin)
	if err != nil {
		return fmt.Errorf("read tags: %w", err)
	}
	is, err := release.Latest(version, strings.Fields(string(tags)))
	if err != nil {
		return err
	}
	fmt.Println(is)
	return nil
}

// repeat builds the release again in another folder, with an empty build cache, and returns its checksums.
func repeat(ctx context.Context, o release.Options) (checksums string, err error) {
	elsewhere, err := os.MkdirTemp("", "agentlet-again-")
	if err != nil {
		return "", fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(elsewhere)) }()
	o.Out, o.Env = filepath.Join(elsewhere, "dist"), []string{"GOCACHE=" + filepath.Join(elsewhere, "cache")}
	if err := release.Build(ctx, o); err != nil {
		return "", err
	}
	sums, err := os.ReadFile(filepath.Join(o.Out, release.Checksums))
	return string(sums), err
}

// compare returns an error with the differences.
func compare(first, second string) error {
	before, after := strings.Split(strings.TrimSpace(first), "\n"), strings.Split(strings.TrimSpace(second), "\n")
	var differ []error
	for _, line := range before {
		if !slices.Contains(after, line) {
			differ = append(differ, fmt.Errorf("a second build gave another %s", line[strings.LastIndexByte(line, ' ')+1:]))
		}
	}
	if len(before) != len(after) {
		differ = append(differ, fmt.Errorf("a second build gave %d files, not %d", len(after), len(before)))
	}
	if len(differ) == 0 {
		fmt.Println("a second build, compiled anew, is equal")
	}
	return errors.Join(differ...)
}
