package registration

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
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
	{contract.DeregisterAfter, duration(func(s *Settings) *time.Duration { return &s.DeregisterAfter }, contract.MinDeregisterAfter)},
	{contract.Gate, oneOf(func(s *Settings) *contract.GateMode { return &s.Gate },
		contract.GatePassing, contract.GateRegistered, contract.GateOff)},
	{contract.GateTimeout, func(s *Settings, text string) (err error) {
		s.GateTimeout, err = parseGateTimeout(text)
		return err
	}},
	{contract.GatePolicy, oneOf(func(s *Settings) *contract.GatePolicyMode { return &s.GatePolicy },
		contract.GateOnce, contract.GateContinuous)},
	{contract.Readiness, oneOf(func(s *Settings) *contract.ReadinessSource { return &s.Readiness },
		contract.ReadinessKubelet, contract.ReadinessProbe)},
	{contract.DrainDelay, duration(func(s *Settings) *time.Duration { return &s.DrainDelay }, 0)},
	// Zero means 'not set' in Settings, so that a pod can't ask for it.
	{contract.DrainTimeout, duration(func(s *Settings) *time.Duration { return &s.DrainTimeout }, time.Millisecond)},
	{contract.DrainHook, func(s *Settings, text string) (err error) {
		s.DrainHook, err = parseBool(text)
		return err
	}},
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
	for _, c := range conflicts(&s) {
		v, _ := r.value(c.key, "")
		r.add(field.Invalid(annotation(c.key), Excerpt(v.text), c.why))
	}
	r.refuseLocalAPI(&s)
	r.warnExcluded(s.Exclude)
	r.warnDrain(&s)
	r.warnHeartbeat(&s)
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
type conflict struct{ key, why string }

func conflicts(s *Settings) (found []conflict) {
	if s.DeregisterAfter > 0 && s.DeregisterAfter < s.HeartbeatTTL {
		found = append(found, conflict{contract.DeregisterAfter, fmt.Sprintf(
			"must not be less than %s (%s): the instance would be reaped between two heartbeats",
			contract.HeartbeatTTL, short(s.HeartbeatTTL))})
	}
	more := func(request, limit *resource.Quantity) bool {
		return request != nil && limit != nil && request.Cmp(*limit) > 0
	}
	if more(s.Resources.CPURequest, s.Resources.CPULimit) {
		found = append(found, conflict{contract.CPURequest, fmt.Sprintf(
			"must not be more than %s (%s)", contract.CPULimit, s.Resources.CPULimit)})
	}
	if more(s.Resources.MemoryRequest, s.Resources.MemoryLimit) {
		found = append(found, conflict{contract.MemoryRequest, fmt.Sprintf(
			"must not be more than %s (%s)", contract.MemoryLimit, s.Resources.MemoryLimit)})
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

// warnExcluded warns of a container that the pod excludes and doesn't have; a later webhook may still add it. The
// installation's list is for all pods, and may name what only some of them have.
func (r *reader) warnExcluded(names []string) {
	if _, own := r.pod.Annotations[contract.ContainerExclude]; !own {
		return
	}
	for _, name := range names {
		has := func(c corev1.Container) bool { return c.Name == name }
		if name == contract.ContainerName {
			r.warn(fmt.Sprintf("%s: %q never counts, there is no need to exclude it", contract.ContainerExclude, name))
		} else if !slices.ContainsFunc(r.pod.Spec.Containers, has) && !slices.ContainsFunc(r.pod.Spec.InitContainers, has) {
			r.warn(fmt.Sprintf("%s: the pod has no container %q", contract.ContainerExclude, name))
		}
	}
}

// warnDrain warns where the pod's grace period leaves less time to drain than it asks for, or than it needs where the period
// is shorter than Kubernetes' own.
func (r *reader) warnDrain(s *Settings) {
	_, delay := r.pod.Annotations[contract.DrainDelay]
	_, timeout := r.pod.Annotations[contract.DrainTimeout]
	grace := r.graceSeconds()
	share := time.Duration(min(float64(grace)*contract.DrainShareOfGrace, maxDuration.Seconds()) * float64(time.Second))
	own := delay || timeout || grace < corev1.DefaultTerminationGracePeriodSeconds
	if asked := s.DrainDelay + s.DrainTimeout; own && asked > share {
		r.warn(fmt.Sprintf("%s and %s ask for %s together, but terminationGracePeriodSeconds %d leaves them %s; the rest is the application's",
			contract.DrainDelay, contract.DrainTimeout, short(asked), grace, short(share.Truncate(time.Second))))
	}
}

// warnHeartbeat warns of a pod that would be killed before its heartbeat runs out. An agentlet that hangs sends none and leaves
// Consul by nothing else; the application goes on until the grace period ends, because its drain hooks wait for the agentlet.
func (r *reader) warnHeartbeat(s *Settings) {
	grace := r.graceSeconds()
	if s.HeartbeatTTL.Seconds() <= float64(grace) {
		return
	}
	r.warn(fmt.Sprintf("%s %s is longer than terminationGracePeriodSeconds %d: "+
		"if the agentlet hangs, Consul shows the pod as passing for up to %s after the pod was killed",
		contract.HeartbeatTTL, short(s.HeartbeatTTL), grace, short(s.HeartbeatTTL-time.Duration(grace)*time.Second)))
}

// graceSeconds is the pod's grace period. The API server makes a negative one 1.
func (r *reader) graceSeconds() int64 {
	switch g := r.pod.Spec.TerminationGracePeriodSeconds; {
	case g == nil:
		return corev1.DefaultTerminationGracePeriodSeconds
	case *g < 0:
		return 1
	default:
		return *g
	}
}
