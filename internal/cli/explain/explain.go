// Package explain describes in words what manifests would register in Consul, and how their pods would start and end.
package explain

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Write explains the result for one pod of the file with this name, including errors and warnings.
func Write(out *printer.Printer, file string, j *manifests.Result) error {
	out.Line(printer.Cell{Text: j.String(), Colour: printer.Bold}, printer.Text(fmt.Sprintf("  %s:%d", file, j.Line)))
	out.Line(printer.Text("  "), outcome(j))
	notes(out, j)
	if !registers(j) {
		return nil
	}
	pod := translated(j)
	reg, errs := registration.Parse(pod, j.Defaults)
	if len(errs) > 0 {
		return fmt.Errorf("explain %s: %w", j.String(), errs.ToAggregate())
	}
	out.Line()
	out.Table("  ", services(reg))
	out.Line()
	out.Table("  ", slices.Concat(
		byDefault(reg), live(pod, j.Defaults), mesh(reg), bypasses(j.Bypasses), settings(pod, &reg.Settings, j.Bypasses),
		defaults(pod, j.Defaults),
	))
	return nil
}

// registers reports whether the pod would be registered, by an agentlet that it gets or has already.
func registers(j *manifests.Result) bool {
	return j.Outcome == injector.Injected || j.Reason == injector.ReasonAlreadyInjected && j.CopyOf == ""
}

// defaults are the rows of the settings that the pod doesn't say itself, by who does. The contract's own are not among them.
func defaults(pod *corev1.Pod, in registration.Defaults) (rows [][]printer.Cell) {
	namespace, installation := in.InForce(pod)
	for _, level := range []struct {
		from   string
		values map[string]string
	}{{"of the namespace", namespace}, {"of the installation", installation}} {
		var pairs []string
		for _, key := range slices.Sorted(maps.Keys(level.values)) {
			pairs = append(pairs, key+"="+level.values[key])
		}
		if len(pairs) > 0 {
			text := level.from + ": " + strings.Join(pairs, ", ")
			rows = append(rows, []printer.Cell{{Text: "defaults", Colour: printer.Faint}, printer.Text(text)})
		}
	}
	return rows
}

// byDefault are the rows of what the annotations don't say, and others could change.
func byDefault(reg *registration.Registration) (rows [][]printer.Cell) {
	if len(reg.DefaultPort) > 0 {
		rows = append(rows, []printer.Cell{
			{Text: "port", Colour: printer.Faint},
			printer.Text("the first that the pod declares at admission, for " + strings.Join(reg.DefaultPort, ", ")),
		})
	}
	return rows
}

// live are the rows of what follows the pod's labels as long as it runs.
func live(pod *corev1.Pod, defaults registration.Defaults) (rows [][]printer.Cell) {
	_, inherited := defaults.InForce(pod)
	for _, from := range []struct{ key, what string }{
		{contract.TagsFromLabels, "live tags"}, {contract.MetaFromLabels, "live meta"},
	} {
		text, own := pod.Annotations[from.key]
		if !own {
			text = inherited[contract.Short(from.key)]
		}
		if strings.TrimSpace(text) != "" {
			rows = append(rows, []printer.Cell{
				{Text: from.what, Colour: printer.Faint}, printer.Text("follow the pod's labels while it runs: " + text),
			})
		}
	}
	return rows
}

// translated returns the pod with another system's annotations translated to Agentlet's.
func translated(j *manifests.Result) *corev1.Pod {
	if len(j.Translated) == 0 {
		return j.Pod.Pod
	}
	pod := *j.Pod.Pod
	pod.Annotations = maps.Clone(pod.Annotations)
	maps.Copy(pod.Annotations, j.Translated)
	return &pod
}

func outcome(j *manifests.Result) printer.Cell {
	if j.Outcome == injector.Denied {
		return printer.Cell{Text: "would be refused: " + printer.Count(len(j.Errors), "error"), Colour: printer.Red}
	}
	if j.Outcome == injector.Injected {
		return inNamespace(j.Namespace)
	}
	if j.CopyOf != "" {
		text := "would be left alone: it is a copy of " + j.CopyOf + ", with that one's agentlet"
		return printer.Cell{Text: text, Colour: printer.Yellow}
	}
	why := map[injector.Reason]string{
		injector.ReasonNotAnnotated:    "would be left alone: it has neither " + contract.ServiceNames + " nor " + contract.Services,
		injector.ReasonOptedOut:        "would be left alone: it opts out" + optOut(j.Pod.Pod),
		injector.ReasonMeshed:          "would be left alone: consul-k8s' mesh registers it",
		injector.ReasonUnsupportedOS:   "would be left alone: it is for Windows nodes",
		injector.ReasonMirrorPod:       "would be left alone: it is a static pod, which its node's kubelet runs from a file",
		injector.ReasonAlreadyInjected: "has its agentlet already, and would be registered",
	}
	return printer.Cell{Text: why[j.Reason], Colour: printer.Yellow}
}

// inNamespace describes how the namespace, which may be unknown, affects the injection.
func inNamespace(namespace *manifests.Namespace) printer.Cell {
	label := contract.InjectLabel + "=" + contract.InjectEnabled
	if namespace == nil {
		return printer.Cell{Text: "would be registered, in a namespace with the label " + label, Colour: printer.Green}
	}
	place := fmt.Sprintf("%s (%s:%d)", namespace.Object, namespace.File, namespace.Line)
	switch value, there := namespace.Label(contract.InjectLabel); {
	case !there && namespace.Annotated(contract.InjectLabel):
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has %s as an annotation, and needs the label %s",
			place, contract.InjectLabel, label), Colour: printer.Yellow}
	case !there:
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has no label %s", place, label), Colour: printer.Yellow}
	case value != contract.InjectEnabled:
		return printer.Cell{Text: fmt.Sprintf("would be left alone: %s has the label %s=%s, which must be %s",
			place, contract.InjectLabel, value, contract.InjectEnabled), Colour: printer.Yellow}
	}
	return printer.Cell{Text: fmt.Sprintf("would be registered: %s has the label %s", place, label), Colour: printer.Green}
}

// optOut returns how a pod opts out with Agentlet's label or annotation, or "".
func optOut(pod *corev1.Pod) string {
	for _, values := range []map[string]string{pod.Labels, pod.Annotations} {
		if value := values[contract.InjectLabel]; contract.OptsOut(value) {
			return fmt.Sprintf(" by %s: %q", contract.InjectLabel, value)
		}
	}
	return ""
}

func notes(out *printer.Printer, j *manifests.Result) {
	for _, kind := range []struct {
		label string
		notes []manifests.Diagnostic
		as    printer.Colour
	}{{"error", j.Errors, printer.Red}, {"warning", j.Warnings, printer.Yellow}} {
		for _, note := range kind.notes {
			out.Line(printer.Text("  "), printer.Cell{Text: kind.label, Colour: kind.as},
				printer.Text(fmt.Sprintf(" %s:%d: %s", note.File, note.Line, note.Message)))
		}
	}
}

func services(reg *registration.Registration) [][]printer.Cell {
	rows := [][]printer.Cell{printer.Header("SERVICE", "PORT", "ADDRESS", "TAGS", "META", "HEALTH", "CHECKS")}
	for i := range reg.Services {
		s := &reg.Services[i]
		rows = append(rows, service(s))
		if s.Sidecar != nil {
			proxy := s.ProxyInstance()
			rows = append(rows, service(&proxy))
		}
	}
	return rows
}

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

// address is a service's, or whose it is.
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
		rows = append(rows, []printer.Cell{{Text: "mesh proxy", Colour: printer.Faint}, printer.Text(text)})
	}
	return rows
}

// bypasses returns, for each other service mesh of the pod, the ports that bypass its proxy.
func bypasses(meshes []injector.Bypass) (rows [][]printer.Cell) {
	for i := range meshes {
		var parts []string
		for _, way := range []struct {
			ports []int
			name  string
		}{{meshes[i].Inbound, "inbound"}, {meshes[i].Outbound, "outbound"}} {
			if len(way.ports) > 0 {
				parts = append(parts, strings.Trim(fmt.Sprint(way.ports), "[]")+" "+way.name)
			}
		}
		text := "ports that bypass its proxy: " + strings.Join(parts, ", ")
		switch {
		case len(parts) == 0:
			text = "its annotations can't be read, and are left alone"
		case meshes[i].Late:
			text = "ports that should bypass its proxy, and don't: " + strings.Join(parts, ", ")
		}
		rows = append(rows, []printer.Cell{{Text: meshes[i].Mesh, Colour: printer.Faint}, printer.Text(text)})
	}
	return rows
}

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

func settings(pod *corev1.Pod, s *registration.Settings, meshes []injector.Bypass) [][]printer.Cell {
	row := func(name, value string) []printer.Cell {
		return []printer.Cell{{Text: name, Colour: printer.Faint}, printer.Text(value)}
	}
	rows := [][]printer.Cell{
		row("gate", gate(s)),
		row("readiness", readiness(s)),
		row("drain", drain(pod, s)),
		row("drain hooks", hooks(pod, s, meshes)),
		row("heartbeat",
			fmt.Sprintf("TTL %s; the node's Consul agent reaps it %s after the last one", s.HeartbeatTTL, s.DeregisterAfter)),
		row("agentlet", fmt.Sprintf("%s, port %d, log level %s, %s", place(s), s.AgentletPort, s.LogLevel, resources(&s.Resources))),
	}
	return rows
}

func place(s *registration.Settings) string {
	if s.Placement == contract.PlacementSidecar {
		return "a native sidecar"
	}
	return "the last of the containers"
}

func gate(s *registration.Settings) string {
	if s.Gate == contract.GateOff {
		return "none: the pod is Ready without Consul's word"
	}
	text, ready := "opens when Consul's catalog shows it passing", "the containers are ready"
	if s.Gate == contract.GateRegistered {
		text, ready = "opens when Consul's catalog has it, before the containers are ready", "they are"
	}
	if s.GateTimeout > 0 {
		text += fmt.Sprintf(", or %s after %s", s.GateTimeout, ready)
	} else {
		text += ", however long that takes"
	}
	if s.GatePolicy == contract.GateContinuous {
		return text + "; closes when the catalog has lost it"
	}
	return text + "; then stays open"
}

func readiness(s *registration.Settings) string {
	text := map[contract.ReadinessSource]string{
		contract.ReadinessStart:   "as the kubelet says; until it first says ready, by the containers' own probes, which the agentlet runs",
		contract.ReadinessKubelet: "as the kubelet says",
		contract.ReadinessProbe:   "by the containers' own probes, which the agentlet runs itself",
	}[s.Readiness]
	if len(s.Exclude) > 0 {
		text += ", without " + strings.Join(s.Exclude, ", ")
	}
	return text
}

// drain describes how long a termination takes; a running pod may have another grace period.
func drain(pod *corev1.Pod, s *registration.Settings) string {
	grace := 30 * time.Second // Kubernetes' default
	if seconds := pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	timeout := s.DrainTimeout
	if timeout == 0 {
		timeout = min(contract.DefaultDrainTimeout, grace/3)
	}
	text := fmt.Sprintf("up to %s for Consul, then %s, of a grace period of %s", timeout, s.DrainDelay, grace)
	if most := time.Duration(float64(grace) * contract.DrainShareOfGrace); timeout+s.DrainDelay > most {
		text += fmt.Sprintf("; cut to %s, so that the application keeps a third", most.Round(time.Second))
	}
	return text
}

// hooks names the containers whose SIGTERM waits for Consul, with the own hooks that come after that.
func hooks(pod *corev1.Pod, s *registration.Settings, meshes []injector.Bypass) string {
	if s.DrainHook == contract.DrainHookOff {
		return "none: SIGTERM doesn't wait for Consul"
	}
	chains := s.DrainHook == contract.DrainHookChain &&
		!slices.ContainsFunc(meshes, func(b injector.Bypass) bool { return b.Mesh == injector.Istio }) // which would lose the own hook
	var with, without []string
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if c.Name == contract.ContainerName {
			continue
		}
		own := registration.OwnHook(c)
		if own == nil {
			with = append(with, c.Name)
			continue
		}
		hook, err := registration.ReadPreStop(pod, c, own)
		if chains && err == nil {
			with = append(with, c.Name+" and then its own ("+ownHook(&hook)+")")
		} else {
			without = append(without, c.Name)
		}
	}
	text := "none"
	if len(with) > 0 {
		text = "on " + strings.Join(with, ", ")
	}
	if len(without) > 0 {
		text += "; not on " + strings.Join(without, ", ") + ", which has its own"
	}
	return text
}

// ownHook describes what the agentlet does after the drain.
func ownHook(hook *registration.PreStop) string {
	if hook.HTTPGet == nil {
		return "sleep " + hook.Sleep.String()
	}
	return fmt.Sprintf("GET %s at port %d", hook.HTTPGet.Path, hook.Port)
}

func resources(r *registration.Resources) string {
	var parts []string
	for _, item := range []struct {
		name string
		is   fmt.Stringer
		set  bool
	}{
		{"cpu request", r.CPURequest, r.CPURequest != nil},
		{"memory request", r.MemoryRequest, r.MemoryRequest != nil},
		{"cpu limit", r.CPULimit, r.CPULimit != nil},
		{"memory limit", r.MemoryLimit, r.MemoryLimit != nil},
	} {
		if item.set {
			parts = append(parts, item.name+" "+item.is.String())
		}
	}
	return strings.Join(parts, ", ")
}
