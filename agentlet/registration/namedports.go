package registration

import (
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// A service of Consul 1.22 may have several ports with names, one of which is the default: the one that is handed to clients
// that ask for none. It has no port beside them.

const portNameForm = "a name of at most 63 letters, digits, '-' and '_', with a letter among them, that starts and ends with a letter or a digit"

// portNamePattern is narrower than Consul, which takes anything: the rest is found by no DNS query.
var portNamePattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$`)

// parsePortName parses the name of a port. Its letter tells it from a number, where a check may say either.
func parsePortName(text string) (string, error) {
	if !portNamePattern.MatchString(text) || isNumber(text) || len(text) > contract.MaxServiceName {
		return "", errForm
	}
	return text, nil
}

var namedPortKeys = readers[Port]{
	"name": func(d decoder, p *field.Path, n *yaml.Node, port *Port) {
		port.Name, _ = parsed(d, p, n, portNameForm, parsePortName)
	},
	"port":    func(d decoder, p *field.Path, n *yaml.Node, port *Port) { port.Port = d.port(p, n) },
	"default": func(d decoder, p *field.Path, n *yaml.Node, port *Port) { port.Default = d.boolean(p, n) },
}

// namedPorts reads the named ports of a service: one for each node of the list.
func (d decoder) namedPorts(path *field.Path, n *yaml.Node) []Port {
	items, ok := d.list(path, n, maxPorts, "a list of ports")
	if !ok {
		return nil
	}
	ports, taken, defaults := make([]Port, len(items)), names{}, 0
	for i, n := range items {
		p, path := &ports[i], path.Index(i)
		present, ok := readObject(d, path, n, namedPortKeys, nil, p)
		if !ok {
			continue
		}
		for _, key := range [...]string{"name", "port"} {
			if !present[key] {
				d.r.add(field.Required(path.Child(key), "a named port has a name and a number"))
			}
		}
		if p.Name != "" && !taken.take(p.Name) {
			d.r.add(field.Duplicate(path.Child("name"), p.Name))
		}
		if p.Default {
			if defaults++; defaults > 1 {
				d.r.add(field.Forbidden(path.Child("default"), "another port is the default already"))
			}
		}
	}
	if defaults == 0 {
		d.r.add(field.Required(path, "one of the ports needs default: true; clients that ask for none get that one"))
	}
	return ports
}

// portNames are the names of the ports of a service that is about to be read, with the ports' numbers within the pod. Where one
// is wrong, which is told when it is read, any number stands for it.
func (d decoder) portNames(n *yaml.Node) map[string]int {
	list := valueOf(n, "ports")
	if list == nil || list.Kind != yaml.SequenceNode || len(list.Content) > maxPorts {
		return nil
	}
	named, atNode := make(map[string]int, len(list.Content)), scalarOf(n, "address") == HostIP
	for _, n := range list.Content {
		text := scalarOf(n, "port")
		port, err := resolvePort(d.r.pod, text)
		if err == nil && atNode {
			_, port, err = portAtNode(d.r.pod, text, port)
		}
		if err != nil {
			port = 1
		}
		if name, err := parsePortName(scalarOf(n, "name")); err == nil {
			named[name] = port
		}
	}
	return named
}

// settlePort gives a service that says no port its own: that of its default one, or else the pod's first.
func (d decoder) settlePort(path *field.Path, present map[string]bool, s *Service) {
	switch {
	case present["ports"] && present["port"]:
		d.r.add(field.Forbidden(path.Child("port"), "not together with ports, one of which is the default"))
	case present["ports"]:
		for i := range s.Ports {
			if s.Ports[i].Default {
				s.Port = s.Ports[i].Port
			}
		}
	case !present["port"]:
		port, err := d.r.portDefault(s.Name)
		if err != nil {
			d.r.add(field.Required(path.Child("port"), expectation(servicePortForm, err)))
		}
		s.Port = port
	}
}

// checkPortless refuses what needs the one port of a service to one that has none, or several.
func (d decoder) checkPortless(path *field.Path, n *yaml.Node, s *Service) {
	meshed := s.Native || s.Sidecar != nil
	switch {
	case s.Ports != nil:
		if meshed {
			d.r.add(field.Forbidden(path.Child("connect"), "not together with ports: Consul's mesh knows one port of a service"))
		}
		return
	case !isNoPort(scalarOf(n, "port")):
		return
	case meshed:
		d.r.add(field.Forbidden(path.Child("connect"), "not with port "+contract.NoPort+": Consul's mesh goes to a service's port"))
	}
	for i := range s.Checks {
		if target := s.Checks[i].HTTP; target != "" && target[0] == '/' {
			d.r.add(field.Invalid(path.Child("checks").Index(i).Child("http"), Excerpt(target),
				"must be "+portedForm+": the service has no port"))
		}
	}
}

// lintPortNames warns of each port that no DNS query finds: Consul makes queries lower case, and compares the names as they are.
func (l *linter) lintPortNames() {
	for i := range l.reg.Services {
		for k := range l.reg.Services[i].Ports {
			if name := l.reg.Services[i].Ports[k].Name; strings.Contains(name, "_") || name != strings.ToLower(name) {
				l.warn(annotation(contract.Services).Index(i).Child("ports").Index(k).Child("name"),
					"port %q: it may not be found by DNS; use lower case letters, digits and '-'", name)
			}
		}
	}
}
