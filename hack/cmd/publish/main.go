// Command publish pushes the image and the chart of a release to a registry:
//
//	publish -dist dist -version 1.2.3 -registry registry.example/team -pubkey cosign.pub
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/agentlet/agentlet/hack/release"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "publish:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o := release.PublishOptions{Log: os.Stdout}
	flag.StringVar(&o.Folder, "dist", "dist", "folder of the release")
	flag.StringVar(&o.Version, "version", "", "version of the release, such as 1.2.3")
	flag.StringVar(&o.Registry, "registry", "", "registry with an optional port and path, such as registry.example/team")
	keyFile := flag.String("pubkey", "", "file with the public key of the checksums' signature; without it the signature isn't verified")
	flag.BoolVar(&o.PlainHTTP, "plain-http", false, "speak HTTP to a registry that isn't on this machine")
	flag.Parse()
	if flag.NArg() > 0 {
		return errors.New("want no arguments beside flags")
	}
	if *keyFile == "" {
		fmt.Println("the signature isn't verified: want PUBKEY=, a file with the public key")
	} else {
		var err error
		if o.PublicKey, err = os.ReadFile(*keyFile); err != nil {
			return fmt.Errorf("read public key: %w", err)
		}
	}
	return release.Publish(ctx, o)
}
