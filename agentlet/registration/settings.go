package registration

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// settings is how each key that configures the registrar reaches Settings.
var settings = []struct {
	key string
	set func(s *Settings, text string) error
}{
	{contract.ContainerExclude, func(s *Settings, text string) (err error) {
		s.Exclude, err = splitList(text)
		return err
	}},
	{contract.HeartbeatTTL, duration(func(s *Settings) *time.Duration { return &s.HeartbeatTTL }, contract.MinHeartbeatTTL)},
	{
		contract.DeregisterAfter,
		duration(func(s *Settings) *time.Duration { return &s.DeregisterAfter }, contract.MinDeregisterAfter),
	},
	{contract.Gate, oneOf(func(s *Settings) *contract.GateMode { return &s.Gate },
		contract.GatePassing, contract.GateRegistered, contract.GateOff)},
	{contract.GateTimeout, func(s *Settings, text string) (err error) {
		s.GateTimeout, err = parseGateTimeout(text)
		return err
	}},
	{contract.GatePolicy, oneOf(func(s *Settings) *contract.GatePolicyMode { return &s.GatePolicy },
		contract.GateOnce, contract.GateContinuous)},
	{contract.Readiness, oneOf(func(s *Settings) *contract.ReadinessSource { return &s.Readiness },
		contract.ReadinessStart, contract.ReadinessKubelet, contract.ReadinessProbe)},
	{contract.Placement, oneOf(func(s *Settings) *contract.PlacementMode { return &s.Placement },
		contract.PlacementAuto, contract.PlacementContainer, contract.PlacementSidecar)},
	{contract.DrainDelay, duration(func(s *Settings) *time.Duration { return &s.DrainDelay }, 0)},
	// Zero means 'not set' in Settings, so that a pod can't ask for it.
	{contract.DrainTimeout, duration(func(s *Settings) *time.Duration { return &s.DrainTimeout }, time.Millisecond)},
	{contract.DrainHook, oneOf(func(s *Settings) *contract.DrainHookMode { return &s.DrainHook },
		contract.DrainHookOn, contract.DrainHookOff, contract.DrainHookChain)},
	{contract.AgentletPort, func(s *Settings, text string) (err error) {
		s.AgentletPort, err = parseAgentletPort(text)
		return err
	}},
	{contract.LocalAPI, oneOf(func(s *Settings) *contract.LocalAPIMode { return &s.LocalAPI },
		contract.LocalAPIEnabled, contract.LocalAPIDisabled)},
	{contract.ConnectInject, func(s *Settings, text string) (err error) {
		s.ConnectInject, err = parseBool(text)
		return err
	}},
	{contract.CPURequest, quantity(func(r *Resources) **resource.Quantity { return &r.CPURequest }, "1m")},
	{contract.MemoryRequest, quantity(func(r *Resources) **resource.Quantity { return &r.MemoryRequest }, "1Mi")},
	{contract.CPULimit, limit(func(r *Resources) **resource.Quantity { return &r.CPULimit }, "1m")},
	// Less than this is a forgotten unit: the process wouldn't start.
	{contract.MemoryLimit, limit(func(r *Resources) **resource.Quantity { return &r.MemoryLimit }, "8Mi")},
	{contract.LogLevel, oneOf(func(s *Settings) *string { return &s.LogLevel }, "debug", "info", "warn", "error")},
}

// errZeroTimeout: zero is 'never' to some programs and 'at once' to others, and the wrong guess either lets no pod of a rollout
// become Ready, or all of them without Consul.
var errZeroTimeout = fmt.Errorf("zero could mean never or at once; say %s, or %s: %s for a pod that doesn't wait",
	contract.Never, contract.Gate, contract.GateOff)

// parseGateTimeout parses a timeout; it is 0 for never.
func parseGateTimeout(text string) (time.Duration, error) {
	if strings.TrimSpace(text) == contract.Never {
		return 0, nil
	}
	d, err := parseDuration(text, 0, maxDuration)
	if err == nil && d == 0 {
		return 0, errZeroTimeout
	}
	return d, err
}

// minAgentletPort: the agentlet runs without root and without capabilities.
const minAgentletPort = 1024

func parseAgentletPort(text string) (int, error) {
	port, err := parsePort(text)
	if err == nil && port < minAgentletPort {
		return 0, errForm
	}
	return port, err
}

func duration(at func(*Settings) *time.Duration, least time.Duration) func(*Settings, string) error {
	return func(s *Settings, text string) (err error) {
		*at(s), err = parseDuration(text, least, maxDuration)
		return err
	}
}

func oneOf[T ~string](at func(*Settings) *T, allowed ...T) func(*Settings, string) error {
	return func(s *Settings, text string) (err error) {
		*at(s), err = parseOneOf(text, allowed...)
		return err
	}
}

func quantity(at func(*Resources) **resource.Quantity, least string) func(*Settings, string) error {
	bound := resource.MustParse(least)
	return func(s *Settings, text string) (err error) {
		*at(&s.Resources), err = parseQuantity(text, bound.DeepCopy())
		return err
	}
}

// limit is a quantity for which zero means none.
func limit(at func(*Resources) **resource.Quantity, least string) func(*Settings, string) error {
	set := quantity(at, least)
	return func(s *Settings, text string) error {
		if err := set(s, text); err != nil {
			return err
		}
		if q := at(&s.Resources); (*q).IsZero() {
			*q = nil
		}
		return nil
	}
}

// allSettings reads all settings with what several of them say together.
func (r *reader) allSettings() Settings {
	s, _ := r.readSettings()
	for _, c := range conflicts(&s, r.origins) {
		v, _ := r.value(c.key, "")
		other, _ := r.value(c.other, "")
		r.add(field.Invalid(annotation(c.key), Excerpt(v.text), c.why+v.note()+other.noteAs(r.origins.name(c.other))))
	}
	r.refuseLocalAPI(&s)
	return s
}

func (r *reader) readSettings() (s Settings, bad bool) {
	for i := range settings {
		v, ok := r.value(settings[i].key, "")
		if !ok {
			continue
		}
		if err := settings[i].set(&s, v.text); err != nil {
			r.invalid(v, err)
			bad = true
		}
	}
	return s, bad
}

// conflict is an error that a setting makes beside another one.
type conflict struct{ key, other, why string }

func conflicts(s *Settings, origins Origins) (found []conflict) {
	if s.DeregisterAfter > 0 && s.DeregisterAfter < s.HeartbeatTTL {
		found = append(found, conflict{contract.DeregisterAfter, contract.HeartbeatTTL, fmt.Sprintf(
			"must not be less than %s (%s): the instance would be reaped between two heartbeats",
			origins.name(contract.HeartbeatTTL), short(s.HeartbeatTTL))})
	}
	more := func(request, limit *resource.Quantity) bool {
		return request != nil && limit != nil && request.Cmp(*limit) > 0
	}
	if more(s.Resources.CPURequest, s.Resources.CPULimit) {
		found = append(found, conflict{contract.CPURequest, contract.CPULimit, fmt.Sprintf(
			"must not be more than %s (%s)", origins.name(contract.CPULimit), s.Resources.CPULimit)})
	}
	if more(s.Resources.MemoryRequest, s.Resources.MemoryLimit) {
		found = append(found, conflict{contract.MemoryRequest, contract.MemoryLimit, fmt.Sprintf(
			"must not be more than %s (%s)", origins.name(contract.MemoryLimit), s.Resources.MemoryLimit)})
	}
	return found
}

// refuseLocalAPI refuses the local API to a pod in its node's network.
func (r *reader) refuseLocalAPI(s *Settings) {
	if s.LocalAPI == contract.LocalAPIEnabled && r.pod.Spec.HostNetwork {
		r.add(field.Invalid(annotation(contract.LocalAPI), string(s.LocalAPI),
			"not with hostNetwork: the loopback is the node's there, and whatever runs on the node could speak for the pod"))
	}
}
