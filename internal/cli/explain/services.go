package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// services is the table of what Consul would get.
func services(reg *registration.Registration) [][]printer.Cell {
	rows := [][]printer.Cell{printer.Header("SERVICE", "PORT", "ADDRESS", "TAGS", "META", "HEALTH", "CHECKS")}
	for _, s := range instances(reg) {
		rows = append(rows, service(s))
	}
	return rows
}

// instances are what Consul would get: each service, and behind it its mesh proxy if it has one.
func instances(reg *registration.Registration) (all []*registration.Service) {
	for i := range reg.Services {
		s := &reg.Services[i]
		all = append(all, s)
		if s.Sidecar != nil {
			proxy := s.ProxyInstance()
			all = append(all, &proxy)
		}
	}
	return all
}

// service is a row of that table.
func service(s *registration.Service) []printer.Cell {
	health := "the pod's readiness"
	if s.Health != "" {
		health = string(s.Health)
	}
	var meta, checks []string
	for _, key := range slices.Sorted(maps.Keys(s.Meta)) {
		meta = append(meta, key+"="+s.Meta[key])
	}
	for k := range s.Checks {
		checks = append(checks, check(&s.Checks[k]))
	}
	return []printer.Cell{
		{Text: s.Name, Colour: printer.Bold},
		printer.Text(ports(s)), printer.Text(address(s)),
		printer.Text(joined(s.Tags)), printer.Text(joined(meta)),
		printer.Text(health), printer.Text(strings.Join(checks, ", ")),
	}
}

// address is a service's own, or the placeholder of the pod's.
func address(s *registration.Service) string { return cmp.Or(s.Address, registration.PodIP) }

// ports formats a service's port, or its named ports.
func ports(s *registration.Service) string {
	if s.Port == 0 {
		return contract.NoPort
	}
	if s.Ports == nil {
		return strconv.Itoa(s.Port)
	}
	named := make([]string, len(s.Ports))
	for i, p := range s.Ports {
		named[i] = fmt.Sprintf("%s %d", p.Name, p.Port)
		if p.Default {
			named[i] += " (default)"
		}
	}
	return strings.Join(named, ", ")
}

// joined formats a list as an annotation's value, with \, for a comma within an item.
func joined(items []string) string {
	escaped := make([]string, len(items))
	for i, item := range items {
		escaped[i] = strings.ReplaceAll(item, ",", `\,`)
	}
	return strings.Join(escaped, ",")
}

// check is what a check of a service asks, and how often.
func check(c *registration.Check) string {
	target := c.HTTP
	switch {
	case c.TCP != "":
		target = "tcp " + c.TCP
	case c.UDP != "":
		target = "udp " + c.UDP
	case c.GRPC != "":
		target = "grpc " + c.GRPC
	case c.H2PING != "":
		target = "h2ping " + c.H2PING
	}
	return fmt.Sprintf("%s each %s", target, c.Interval)
}

// mesh returns, for each service with a proxy, which upstreams the application reaches through it.
func mesh(reg *registration.Registration) (rows [][]printer.Cell) {
	for i := range reg.Services {
		sidecar := reg.Services[i].Sidecar
		if sidecar == nil {
			continue
		}
		text := "added by the webhook"
		if !reg.Settings.ConnectInject {
			text = "one of the pod's own, for " + contract.ConnectInject + ` is not "true"`
		}
		for _, u := range sidecar.Proxy.Upstreams {
			text += fmt.Sprintf("; %s at %s", u.DestinationName, net.JoinHostPort(u.LocalBindAddress, strconv.Itoa(u.LocalBindPort)))
		}
		rows = append(rows, row("mesh proxy", text))
	}
	return rows
}
