// Command image packs static programs into a container image that a node imports.
//
//	go run ./cmd/image -o agentlet.tar -tag agentlet.test/agentlet:e2e -file /agentlet=../bin/agentlet
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/agentlet/agentlet/hack/image"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run() error {
	var spec image.Spec
	out := flag.String("o", "", "tarball to write")
	tag := flag.String("tag", "", "image reference, NAME:TAG")
	flag.StringVar(&spec.User, "user", image.DefaultUser, "user and group of the image")
	flag.Func("file", "`/PATH=SOURCE`: executable in the image and its content here; repeatable, the first is the entrypoint",
		func(value string) error {
			path, source, ok := strings.Cut(value, "=")
			if !ok {
				return errors.New("want /PATH=SOURCE")
			}
			spec.Files = append(spec.Files, image.File{Path: path, Source: source})
			return nil
		})
	flag.Func("entrypoint", "entrypoint `word`; repeatable", func(word string) error {
		spec.Entrypoint = append(spec.Entrypoint, word)
		return nil
	})
	flag.Parse()
	if *out == "" || *tag == "" || flag.NArg() > 0 {
		flag.Usage()
		return errors.New("want -o and -tag, and no further arguments")
	}
	img, err := image.Build(spec)
	if err != nil {
		return err
	}
	return image.WriteTarball(*out, *tag, img)
}
