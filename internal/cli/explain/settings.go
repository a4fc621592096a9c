package explain

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

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
			rows = append(rows, row("defaults", text))
		}
	}
	return rows
}

// byDefault are the rows of what the annotations don't say, and others could change.
func byDefault(reg *registration.Registration) (rows [][]printer.Cell) {
	if len(reg.DefaultPort) > 0 {
		rows = append(rows, row("port", "the first that the pod declares at admission, for "+strings.Join(reg.DefaultPort, ", ")))
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
			rows = append(rows, row(from.what, "follow the pod's labels while it runs: "+text))
		}
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
		rows = append(rows, row(meshes[i].Mesh, text))
	}
	return rows
}

// settings are the rows of how the pod starts, runs and ends.
func settings(pod *corev1.Pod, s *registration.Settings, meshes []injector.Bypass) [][]printer.Cell {
	return [][]printer.Cell{
		row("gate", gate(s)),
		row("readiness", readiness(s)),
		row("drain", drain(pod, s)),
		row("drain hooks", hooks(pod, s, meshes)),
		row("heartbeat",
			fmt.Sprintf("TTL %s; the node's Consul agent reaps it %s after the last one", s.HeartbeatTTL, s.DeregisterAfter)),
		row("agentlet", fmt.Sprintf("%s, port %d, log level %s, %s", place(s), s.AgentletPort, s.LogLevel, resources(&s.Resources))),
	}
}

// row is a row of the table below that of the services: what it is about, and what there is to say.
func row(about, text string) []printer.Cell {
	return []printer.Cell{{Text: about, Colour: printer.Faint}, printer.Text(text)}
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
