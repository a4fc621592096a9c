// Command coredns is CoreDNS with the plugins that forward names and keep answers, and few others.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
)

func main() {
	dnsserver.Directives = []string{"bind", "errors", "cache", "forward"}
	coremain.Run()
}
