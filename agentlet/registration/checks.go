package registration

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	// minCheckInterval is Consul's own minimum; it takes less for that.
	minCheckInterval = time.Second
	// maxCheckCount bounds how many results in a row a check may wait for.
	maxCheckCount = 1000

	portedForm     = `"http://:8080/path" or "https://:8443/path"`
	httpForm       = `"http://:8080/path", "https://:8443/path", or "/path" on the service's port`
	portTargetForm = `a port with an empty host, such as ":6379" or ":http"`
	grpcForm       = `a port with an empty host, such as ":9090" or ":9090/service"`

	ownIP = "a check goes to the pod's own IP by http, tcp, udp, grpc or h2ping"
)

// checkKinds are the keys of which a check has exactly one.
var checkKinds = [...]string{"http", "tcp", "udp", "grpc", "h2ping"}

var (
	errHost = errors.New("a check goes to the pod's own IP; leave the host empty")

	grpcServicePattern = regexp.MustCompile(`^[!-~]*$`)
)

var checkKeys = readers[Check]{
	"name": func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.Name, _ = d.text(p, n, "a text") },
	"http": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.HTTP, _ = parsed(d, p, n, httpForm, d.httpTarget)
	},
	"tcp": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.TCP, _ = parsed(d, p, n, portTargetForm, d.portTarget)
	},
	"udp": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.UDP, _ = parsed(d, p, n, portTargetForm, d.portTarget)
	},
	"grpc": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.GRPC, _ = parsed(d, p, n, grpcForm, d.grpcTarget)
	},
	"h2ping": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.H2PING, _ = parsed(d, p, n, portTargetForm, d.portTarget)
	},
	"h2ping_use_tls":  func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.H2PingUseTLS = d.boolean(p, n) },
	"grpc_use_tls":    func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.GRPCUseTLS = d.boolean(p, n) },
	"tls_skip_verify": func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.TLSSkipVerify = d.boolean(p, n) },
	"tls_server_name": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.TLSServerName, _ = parsed(d, p, n, "a name in DNS, such as web.example.com", hostName)
	},
	"method": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.Method, _ = parsed(d, p, n, "an HTTP method", httpMethod)
	},
	"header": readHeader,
	"body":   readBody,
	"interval": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.Interval = d.duration(p, n, minCheckInterval)
	},
	"timeout": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.Timeout = d.duration(p, n, time.Millisecond)
	},
	"success_before_passing":   func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.SuccessBeforePassing = d.count(p, n) },
	"failures_before_warning":  func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.FailuresBeforeWarning = d.count(p, n) },
	"failures_before_critical": func(d decoder, p *field.Path, n *yaml.Node, c *Check) { c.FailuresBeforeCritical = d.count(p, n) },
	"status": func(d decoder, p *field.Path, n *yaml.Node, c *Check) {
		c.Status, _ = parsed(d, p, n, podKeys[contract.ServiceHealth].Form, parseHealth)
	},
}

const (
	moreThanOwn = "it runs in the node's Consul agent, which may do more than whoever writes annotations; " + ownIP
	notOurs     = "it says something of others than this pod; " + ownIP
)

// refusedCheckKeys are keys of Consul's check definition that a pod can't use, with the reason.
var refusedCheckKeys = map[string]string{
	"args":                moreThanOwn,
	"script":              moreThanOwn,
	"shell":               moreThanOwn,
	"docker_container_id": moreThanOwn,
	"os_service":          moreThanOwn,
	"alias_node":          notOurs,
	"alias_service":       notOurs,
	"ttl":                 "nobody would send its heartbeats; agentlet's own checks carry the pod's life and readiness",
	"id":                  "agentlet gives the ID",
	"check_id":            "agentlet gives the ID",
	"notes":               "not supported",
	"disable_redirects":   "redirects are never followed",

	"deregister_critical_service_after": "an instance leaves with its pod; for an agentlet that died see " + contract.DeregisterAfter,
}

// checks reads a list of them; it is not nil where the list is empty.
func (d decoder) checks(path *field.Path, n *yaml.Node) []Check {
	items, ok := d.list(path, n, maxChecks, "a list of checks")
	if !ok {
		return nil
	}
	checks := make([]Check, 0, len(items))
	for i, n := range items {
		checks = append(checks, d.check(path.Index(i), n))
	}
	return checks
}

// check reads one check.
func (d decoder) check(path *field.Path, n *yaml.Node) (c Check) {
	before := len(d.r.errs)
	present, ok := readObject(d, path, n, checkKeys, refusedCheckKeys, &c)
	if !ok {
		return c
	}
	d.checkTarget(path, present)
	if present["h2ping"] && !present["h2ping_use_tls"] {
		c.H2PingUseTLS = true // Consul's own default
	}
	if !present["interval"] {
		d.r.add(field.Required(path.Child("interval"), "a duration such as 10s"))
	}
	if c.Interval > 0 && c.Timeout > c.Interval {
		d.r.add(field.Invalid(path.Child("timeout"), c.Timeout.String(), "must not be more than interval ("+short(c.Interval)+")"))
	}
	if len(d.r.errs) == before && c.FailuresBeforeWarning > c.FailuresBeforeCritical {
		d.r.add(field.Invalid(path.Child("failures_before_warning"), c.FailuresBeforeWarning,
			fmt.Sprintf("must not be more than failures_before_critical (%d)", c.FailuresBeforeCritical)))
	}
	return c
}

// checkTarget checks that there is one target, and that the other keys go with it.
func (d decoder) checkTarget(path *field.Path, present map[string]bool) {
	kinds := 0
	for _, key := range checkKinds {
		if present[key] {
			kinds++
		}
	}
	if kinds != 1 {
		for key := range present {
			if refusedCheckKeys[key] != "" && kinds == 0 {
				return // the check is of a kind that was refused already
			}
		}
		d.r.add(field.Required(path, "exactly one of http, tcp, udp, grpc and h2ping"))
		return
	}
	for _, only := range [...]struct {
		key, with string
		ok        bool
	}{
		{"method", "http", present["http"]},
		{"header", "http", present["http"]},
		{"body", "http", present["http"]},
		{"grpc_use_tls", "grpc", present["grpc"]},
		{"h2ping_use_tls", "h2ping", present["h2ping"]},
		{"tls_skip_verify", "http, grpc and h2ping", !present["tcp"] && !present["udp"]},
		{"tls_server_name", "http, grpc and h2ping", !present["tcp"] && !present["udp"]},
	} {
		if present[only.key] && !only.ok {
			d.r.add(field.Forbidden(path.Child(only.key), "goes with "+only.with+" only"))
		}
	}
}

func (d decoder) count(path *field.Path, n *yaml.Node) int {
	return d.integer(path, n, 0, maxCheckCount)
}

func readHeader(d decoder, path *field.Path, n *yaml.Node, c *Check) {
	c.Header = map[string][]string{}
	d.each(path, n, "a mapping of names to lists of values", func(path *field.Path, name string, value *yaml.Node) {
		if len(validation.IsHTTPHeaderName(name)) > 0 {
			d.r.add(field.Invalid(path, Excerpt(name), "is no name of an HTTP header"))
		}
		c.Header[name] = d.strings(path, value, "a list of values")
	})
}

// readBody reads what is sent to the pod itself, and may have lines.
func readBody(d decoder, path *field.Path, n *yaml.Node, c *Check) {
	body, ok := d.lines(path, n, "a text")
	if err := checkText(strings.NewReplacer("\n", "", "\r", "", "\t", "").Replace(body)); ok && err != nil {
		d.r.add(field.Invalid(path, Excerpt(body), "holds a control character that is no line break or tab"))
	}
	c.Body = body
}

func hostName(text string) (string, error) {
	if len(validation.IsDNS1123Subdomain(text)) > 0 {
		return "", errForm
	}
	return text, nil
}

func httpMethod(text string) (string, error) {
	if text == "" || strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", errForm
	}
	return text, nil
}

// httpTarget parses an HTTP check's target into "http://:PORT/path", or into "/path" where the port is the service's.
func (d decoder) httpTarget(text string) (string, error) {
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case strings.HasPrefix(text, "/"):
		scheme, rest = "http", ":1"+text // any port: only the path is kept
	case !found || (scheme != "http" && scheme != "https"):
		return "", errForm
	}
	rest, err := d.withPortNumber(withoutPodIP(rest))
	if err != nil {
		return "", err
	}
	u, err := url.Parse(scheme + "://" + rest)
	switch {
	case err != nil || u.Fragment != "":
		return "", errForm
	case u.Hostname() != "" || u.User != nil:
		return "", errHost
	}
	if _, err := parsePort(u.Port()); err != nil {
		return "", errForm
	}
	if strings.HasPrefix(text, "/") {
		return u.RequestURI(), nil
	}
	return u.String(), nil
}

// withPortNumber replaces a port's name in what follows a URL's scheme by its number.
func (d decoder) withPortNumber(rest string) (string, error) {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, name, found := cutLast(rest[:end], ":")
	if !found || isNumber(name) || !metaKeyPattern.MatchString(name) {
		return rest, nil
	}
	port, err := d.targetPort(name)
	return host + ":" + strconv.Itoa(port) + rest[end:], err
}

// withPort gives a bare path the service's port.
func withPort(target string, port int) string {
	if !strings.HasPrefix(target, "/") {
		return target
	}
	return "http://:" + strconv.Itoa(port) + target
}

// portTarget parses the target of a check that needs no more than a port into ":PORT".
func (d decoder) portTarget(text string) (string, error) {
	host, name, found := cutLast(withoutPodIP(text), ":")
	switch {
	case !found:
		return "", errForm
	case host != "":
		return "", errHost
	}
	port, err := d.targetPort(name)
	if err != nil {
		return "", err
	}
	return ":" + strconv.Itoa(port), nil
}

// grpcTarget parses a gRPC check's target into ":PORT" or ":PORT/service".
func (d decoder) grpcTarget(text string) (string, error) {
	address, service, hasService := strings.Cut(withoutPodIP(text), "/")
	target, err := d.portTarget(address)
	if err != nil {
		return "", err
	}
	if !hasService {
		return target, nil
	}
	if service == "" || !grpcServicePattern.MatchString(service) {
		return "", errForm
	}
	return target + "/" + service, nil
}

// targetPort is the port of a check: a number, the name of one of the service's own ports, or that of a declared container port.
func (d decoder) targetPort(text string) (int, error) {
	if port, own := d.named[text]; own {
		return port, nil
	}
	return resolvePort(d.r.pod, text)
}

// lintUDP warns of a check that may never pass: Consul 1.22 sends an empty datagram, and its timeout bounds no reading
// (hashicorp/consul#22068).
func (l *linter) lintUDP() {
	for i := range l.reg.Services {
		for k := range l.reg.Services[i].Checks {
			if c := &l.reg.Services[i].Checks[k]; c.UDP != "" && (c.Status == "" || c.Status == contract.Critical) {
				l.warn(annotation(contract.Services).Index(i).Child("checks").Index(k).Child("udp"),
					"udp: the check stays critical until the application answers an empty datagram; with status: passing it stays passing instead")
			}
		}
	}
}

// withoutPodIP takes the pod's own IP, as it may be written, off the start of an address.
func withoutPodIP(address string) string {
	for _, host := range [...]string{PodIP, "[" + PodIP + "]"} {
		if rest, ok := strings.CutPrefix(address, host); ok {
			return rest
		}
	}
	return address
}

func cutLast(text, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(text, separator); i >= 0 {
		return text[:i], text[i+len(separator):], true
	}
	return text, "", false
}
