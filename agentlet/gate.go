package agentlet

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// verdict is what the gate should say. Its message holds nothing that changes by itself, or it would be written for ever.
type verdict struct {
	open    bool
	reason  contract.Reason
	message string
}

// judge decides what the gate should say now.
func judge(s *state, now time.Time) verdict {
	switch {
	case s.terminating():
		return verdict{reason: contract.Draining, message: "the pod terminates"}
	case s.gate.open() && !lost(s):
		return stayOpen(s)
	case s.portConflict != "":
		return verdict{reason: contract.PortConflict, message: s.portConflict}
	case s.reg == nil && s.mistakes != "":
		return verdict{reason: contract.InvalidConfiguration, message: s.mistakes}
	case s.pod == nil || s.reg == nil:
		return verdict{reason: contract.Starting, message: "waiting for the pod's first status"}
	}
	return judgeClosed(s, now)
}

// stayOpen keeps an open gate open, and says so where the annotations that the pod has now can't be followed. Until the
// agent has been looked at it says what it said.
func stayOpen(s *state) verdict {
	v := verdict{open: true, reason: contract.Registered, message: registeredMessage(s)}
	switch {
	case s.mistakes != "":
		v.reason, v.message = contract.InvalidConfiguration, "the last good registration stays: "+s.mistakes
	case s.reg == nil, !s.link.inspected, contract.Reason(s.gate.current.Reason) == contract.TimedOut && !allShown(s):
		v.reason, v.message = contract.Reason(s.gate.current.Reason), s.gate.current.Message
	}
	return v
}

// lost reports whether an open gate has to close: under the continuous policy, when the catalog is known not to have an
// instance. Not knowing closes nothing.
func lost(s *state) bool {
	if s.reg == nil || s.reg.Settings.GatePolicy != contract.GateContinuous || !s.catalog.fresh() {
		return false
	}
	for _, i := range s.wanted() {
		if _, there := s.catalog.view.Instances[i.id]; !there && i.registered {
			return true
		}
	}
	return false
}

func judgeClosed(s *state, now time.Time) verdict {
	registered := s.mode() == contract.GateRegistered
	waiting := notReady(s.pod, s.reg.Settings.Exclude)
	timeout := s.reg.Settings.GateTimeout
	switch {
	case s.pod.Status.PodIP == "":
		return verdict{reason: contract.Starting, message: "waiting for the pod's IP"}
	case allShown(s) && (registered || s.ready()):
		return verdict{open: true, reason: contract.Registered, message: registeredMessage(s)}
	case timeout > 0 && s.ready() && !now.Before(s.readySince.Add(timeout)):
		return verdict{open: true, reason: contract.TimedOut, message: fmt.Sprintf("opened after %s=%s without the catalog's word", contract.GateTimeout, timeout)}
	case !s.link.answers:
		return verdict{reason: contract.ConsulUnreachable, message: "the Consul agent at " + s.identity.ConsulAddress + " does not answer" + cause(s, lane{name: "link"})}
	case !s.link.leader:
		return verdict{reason: contract.ConsulUnreachable, message: "the Consul agent at " + s.identity.ConsulAddress + " knows no leader"}
	case rejection(s) != nil:
		return verdict{reason: contract.RegistrationRejected, message: "the Consul agent at " + s.identity.ConsulAddress + " refused: " + rejection(s).Error()}
	case !registered && !s.ready():
		return verdict{reason: contract.ContainersNotReady, message: "not ready: " + strings.Join(waiting, ", ")}
	case s.gate.current != nil && lost(s):
		return verdict{reason: contract.CatalogLost, message: "the catalog has lost an instance"}
	case s.catalog.view != nil && len(s.catalog.view.FailingNodeChecks) > 0:
		return verdict{reason: contract.AwaitingCatalog, message: "the Consul node's own checks fail: " + strings.Join(s.catalog.view.FailingNodeChecks, ", ")}
	}
	return verdict{reason: contract.AwaitingCatalog, message: "waiting until the catalog shows every service"}
}

// allShown reports whether the catalog, read after the last change at the agent, has every service as it should be, on a
// node whose own checks pass: what a client that asks for passing instances would see.
func allShown(s *state) bool {
	wanted := s.wanted()
	if len(wanted) == 0 || !s.catalog.fresh() || len(s.catalog.view.FailingNodeChecks) > 0 {
		return false
	}
	for _, i := range wanted {
		if i.agent != present || !i.current() || !s.shown(i) {
			return false
		}
	}
	return true
}

func registeredMessage(s *state) string {
	var names []string
	if s.reg != nil {
		for _, service := range s.reg.Services {
			names = append(names, service.Name)
		}
	}
	return "the catalog shows " + strings.Join(names, ", ")
}

// rejection is the answer by which the agent refused an instance, or nil.
func rejection(s *state) error {
	for _, i := range s.wanted() {
		if r := s.retries[lane{"agent", i.id}]; r.failures > 0 && isRejected(r.err) {
			return r.err
		}
	}
	return nil
}

func cause(s *state, l lane) string {
	if err := s.retries[l].err; err != nil {
		return ": " + err.Error()
	}
	return ""
}

func (v verdict) status() corev1.ConditionStatus {
	if v.open {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// matches reports whether the condition says it already.
func (v verdict) matches(c *corev1.PodCondition) bool {
	return c != nil && c.Status == v.status() && c.Reason == string(v.reason) && c.Message == v.message
}

// condition to write. The transition time is kept where the status stays.
func (v verdict) condition(current *corev1.PodCondition, now time.Time) corev1.PodCondition {
	c := corev1.PodCondition{
		Type:               contract.Condition,
		Status:             v.status(),
		Reason:             string(v.reason),
		Message:            v.message,
		LastTransitionTime: metav1.NewTime(now),
	}
	if current != nil && current.Status == c.Status {
		c.LastTransitionTime = current.LastTransitionTime
	}
	return c
}
