package registration

import (
	"errors"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// maxWeight is Consul's bound on a weight, that of an SRV record.
const maxWeight = 65535

var (
	errPlaceholder = errors.New("it is neither the pod's nor the node's own address")

	servicePortForm = podKeys[contract.ServicePort].Form
	addressForm     = PodIP + ", " + HostIP + " or empty"
)

const portForm = "a port number (1-65535) or the name of a declared container port"

var serviceKeys = readers[Service]{
	"name":                readName,
	"port":                readPort,
	"ports":               func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Ports = d.namedPorts(p, n) },
	"tags":                func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Tags = d.tags(p, n) },
	"meta":                func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Meta = d.meta(p, n) },
	"weights":             readWeights,
	"address":             func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Address = d.address(p, n) },
	"tagged_addresses":    readTaggedAddresses,
	"enable_tag_override": func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.EnableTagOverride = d.boolean(p, n) },
	"checks":              func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Checks = d.checks(p, n) },
	"connect":             readConnect,
	"namespace":           func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Namespace = d.tenancy(p, n) },
	"partition":           func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Partition = d.tenancy(p, n) },
}

const byConnect = "for the service mesh say connect.sidecar_service; gateways are no pod's service"

// refusedServiceKeys are keys of Consul's service definition that a pod can't use, with the reason.
var refusedServiceKeys = map[string]string{
	"proxy":       byConnect,
	"kind":        byConnect,
	"id":          "agentlet gives the ID, so that no other pod can have the same",
	"check":       "say checks, with a list",
	"token":       "agentlet registers with its own token; an annotation is no place for a secret",
	"socket_path": "a pod's service has a port",
}

// structuredServices reads the services of the structured form.
func (r *reader) structuredServices() []Service {
	v, _ := r.value(contract.Services, "")
	path := annotation(v.found)
	root, err := parseYAML(v.text)
	if err != nil {
		r.invalid(v, err)
		return nil
	}
	d := decoder{r: r}
	if !d.kind(path, root, yaml.SequenceNode, v.spec.Form) {
		return nil
	}
	if len(root.Content) == 0 {
		r.invalid(v, errNoNames)
	}
	if err := checkCount(len(root.Content), MaxServices, "services"); err != nil {
		r.invalid(v, err)
		return nil
	}
	taken := make(names, len(root.Content))
	services := make([]Service, 0, len(root.Content))
	for i, n := range root.Content {
		s, ok := d.service(path.Index(i), n)
		for _, name := range s.names() {
			if ok && !taken.take(name) {
				r.add(field.Duplicate(path.Index(i).Child("name"), name))
			}
		}
		services = append(services, s)
	}
	return services
}

// service reads one service.
func (d decoder) service(path *field.Path, n *yaml.Node) (Service, bool) {
	var s Service
	d.named = d.portNames(n)
	present, ok := readObject(d, path, n, serviceKeys, refusedServiceKeys, &s)
	if !ok {
		return Service{}, false
	}
	if !present["name"] {
		d.r.add(field.Required(path.Child("name"), "a service needs a name"))
	}
	d.settlePort(path, present, &s)
	inPod := d.settleHostPorts(path, n, &s)
	d.checkPortless(path, n, &s)
	for i := range s.Checks {
		s.Checks[i].HTTP = withPort(s.Checks[i].HTTP, inPod)
	}
	if s.Sidecar != nil && s.Sidecar.Proxy.LocalServicePort == 0 {
		s.Sidecar.Proxy.LocalServicePort = inPod
	}
	return s, true
}

// names that the service has in Consul.
func (s *Service) names() (names []string) {
	if s.Name != "" {
		names = append(names, s.Name)
		if s.Sidecar != nil {
			names = append(names, contract.ProxyName(s.Name))
		}
	}
	return names
}

func readName(d decoder, path *field.Path, n *yaml.Node, s *Service) {
	if name := d.serviceName(path, n, checkServiceName); name != "" {
		s.Name = name
	}
}

// serviceName reads one; it is empty where it is wrong.
func (d decoder) serviceName(path *field.Path, n *yaml.Node, check func(string) error) string {
	name, ok := parsed(d, path, n, "a service name", func(text string) (string, error) { return text, check(text) })
	if !ok {
		return ""
	}
	return name
}

func readPort(d decoder, path *field.Path, n *yaml.Node, s *Service) {
	s.Port, _ = parsed(d, path, n, servicePortForm, func(text string) (int, error) { return servicePort(d.r.pod, text) })
}

func (d decoder) port(path *field.Path, n *yaml.Node) int {
	port, _ := parsed(d, path, n, portForm, func(text string) (int, error) { return resolvePort(d.r.pod, text) })
	return port
}

func (d decoder) tags(path *field.Path, n *yaml.Node) []string {
	tags := d.strings(path, n, "a list of tags")
	for i := range tags {
		tags[i] = d.r.named(path.Index(i), "tag", tags[i])
		d.r.askTag(tags[i], path.Index(i), "")
	}
	return unique(tags)
}

func (d decoder) meta(path *field.Path, n *yaml.Node) map[string]string {
	meta := map[string]string{}
	d.each(path, n, "a mapping of texts", func(path *field.Path, key string, value *yaml.Node) {
		text, ok := d.text(path, value, "a text")
		text = d.r.named(path, "meta "+key, text)
		if err := checkMeta(key, text); ok && err != nil {
			d.r.add(field.Invalid(path, Excerpt(text), err.Error()))
		}
		meta[key] = text
	})
	if err := checkMetaCount(len(meta)); err != nil {
		d.r.add(field.TooMany(path, len(meta), maxMetaPairs-len(agentletMeta)))
	}
	return meta
}

func readWeights(d decoder, path *field.Path, n *yaml.Node, s *Service) {
	s.Weights = &Weights{Passing: 1, Warning: 1} // Consul's own
	readObject(d, path, n, weightKeys, nil, s.Weights)
}

var weightKeys = readers[Weights]{
	"passing": func(d decoder, p *field.Path, n *yaml.Node, w *Weights) { w.Passing = d.integer(p, n, 1, maxWeight) },
	"warning": func(d decoder, p *field.Path, n *yaml.Node, w *Weights) { w.Warning = d.integer(p, n, 0, maxWeight) },
}

func readTaggedAddresses(d decoder, path *field.Path, n *yaml.Node, s *Service) {
	s.TaggedAddresses = map[string]TaggedAddress{}
	d.each(path, n, "a mapping of tags to addresses", func(path *field.Path, tag string, value *yaml.Node) {
		var t TaggedAddress
		readObject(d, path, value, addressKeys, nil, &t)
		if t.Address == HostIP && t.Port != 0 {
			text := scalarOf(value, "port")
			port, err := portAtHost(d.r.pod, text)
			if err != nil {
				d.r.add(field.Invalid(path.Child("port"), Excerpt(text), expectation(portForm, err)))
			} else {
				t.Port = port
			}
		}
		if !metaKeyPattern.MatchString(tag) {
			d.r.add(field.Invalid(path, Excerpt(tag), "a tag of an address consists of letters, digits, '-' and '_'"))
		}
		s.TaggedAddresses[tag] = t
	})
}

var addressKeys = readers[TaggedAddress]{
	"address": func(d decoder, p *field.Path, n *yaml.Node, t *TaggedAddress) { t.Address = d.address(p, n) },
	"port":    func(d decoder, p *field.Path, n *yaml.Node, t *TaggedAddress) { t.Port = d.port(p, n) },
}

// address reads an address: a placeholder, because whoever writes annotations could otherwise send a service's clients
// anywhere.
func (d decoder) address(path *field.Path, n *yaml.Node) string {
	address, _ := parsed(d, path, n, addressForm, func(text string) (string, error) {
		switch text {
		case "", PodIP, HostIP:
			return text, nil
		}
		return "", errPlaceholder
	})
	return address
}

// tenancy reads the name of a namespace, partition, peer or datacenter.
func (d decoder) tenancy(path *field.Path, n *yaml.Node) string {
	name, _ := parsed(d, path, n, "a name", func(text string) (string, error) { return text, checkName(text) })
	return name
}
