package docs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/agentlet/agentlet/agentlet/api"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/internal/connlimit"
	"github.com/agentlet/agentlet/webhook"
)

// notInForce marks keys that the code does not implement yet. Remove an entry when the code does.
var notInForce = map[string]string{}

// advice says what to do about each reason of a gate or an event.
var advice = map[contract.Reason]string{
	contract.Starting:           "Wait for the pod's IP. If it stays, read the agentlet's log.",
	contract.ContainersNotReady: "Look at the containers that the message names. One that shall not count goes into `container-exclude`.",
	contract.ConsulUnreachable: "[Consul is out of reach](#consul-is-out-of-reach). \"has no cluster leader\": the agent lost its " +
		"servers. \"TTL check updates time out\": it is blocked.",
	contract.LoginFailed: "Add what the message says is missing: auth method, binding rule or Secret ([consul.md](consul.md)).",
	contract.RegistrationRejected: "Read the agent's answer. `Permission denied`: the token needs `service:write` " +
		"([consul.md](consul.md)).",
	contract.RegistrationFailed:   "Fix what the agent's answer names, such as a full disk. The agentlet retries by itself.",
	contract.InvalidConfiguration: "Correct the annotation that the message names.",
	contract.PortConflict: "Choose another `agentlet-port`: something in the pod, or with `hostNetwork` on the node, " +
		"has this one.",
	contract.AwaitingCatalog: "If the message names a check, see to that. Otherwise the agent's log says why it can't sync: `node:write`, " +
		"`service:write`, a refused node name.",
	contract.Registered:    "Nothing. If the pod isn't Ready, `kubectl describe pod` says why.",
	contract.TimedOut:      "As for `AwaitingCatalog` or `ConsulUnreachable`: `gate-timeout` opened the gate.",
	contract.CatalogLost:   "Wait: it is restored. If it stays, as for `AwaitingCatalog`.",
	contract.Draining:      "Nothing: the pod ends, after `drain-timeout` and `drain-delay` at most.",
	contract.OptedOut:      "Undo what the message names [to have it back](applications.md#taking-one-pod-out-of-service).",
	contract.CopiedPod:     "Nothing, for a debugging copy. To register it, create it without the container `agentlet` and its gate.",
	contract.CheckFailing:  "Correct the check that the message names, or the application.",
	contract.Maintenance:   "Nothing: the application asked for it.",
	contract.Drained:       "Nothing.",
	contract.DrainTimedOut: "[Requests fail in a rollout](#requests-fail-in-a-rollout)",
}

// tables returns the tables by name.
func tables() map[string]string {
	return map[string]string{
		"contract-namespace": contractTable(func(k *contract.Key) bool { return strings.HasPrefix(k.Where, "namespace ") }),
		"contract-pod":       contractTable(func(k *contract.Key) bool { return strings.HasPrefix(k.Where, "pod ") && !k.NamespaceDefault() }),
		"contract-settings":  contractTable((*contract.Key).NamespaceDefault),

		"advice": adviceTable(),
		"meta":   metaTable(),

		"dialect-katalog-sync": dialectTable(dialect.KatalogSync),
		"dialect-consul-k8s":   dialectTable(dialect.ConsulK8s),

		"metrics-agentlet": metricTable(api.Metrics()),
		"metrics-webhook":  metricTable(webhookMetrics()),
		"connections":      connectionTable(),
	}
}

// connectionTable returns the table of each port's connection limits.
func connectionTable() string {
	t := newTable("port", "in all", "of one source", "and beside these, never closed for others")
	admission, health := webhook.ConnectionLimits()
	add := func(port string, limits connlimit.Limits, kept string) {
		if limits.Kept > 0 {
			kept += fmt.Sprintf(": %d", limits.Kept)
		}
		if limits.KeptPerSource < limits.Kept {
			kept += fmt.Sprintf(", %d of one source", limits.KeptPerSource)
		}
		t.row(port, strconv.Itoa(limits.Total), strconv.Itoa(limits.PerSource), kept)
	}
	add("an agentlet's, 19500", api.ConnectionLimits(), "drain hooks with the pod's nonce, and calls of the local API")
	add("the webhook's for admission, 9443", admission, "connections over which a review was answered")
	add("the webhook's for health and metrics, 8080", health, "")
	return t.String()
}

// contractTable returns the table of the contract's keys that belong in it.
func contractTable(belongs func(*contract.Key) bool) string {
	t := newTable("key", "value (default)", "meaning")
	for _, k := range contract.Keys() {
		if !belongs(&k) {
			continue
		}
		key := contract.Short(k.Name)
		if k.PerService {
			key += "[.NAME]"
		}
		meaning := k.Doc
		if note := notInForce[k.Name]; note != "" {
			meaning += " — **" + note + "**"
		}
		value := k.Form
		if k.Default != "" {
			value += " (" + code(k.Default) + ")"
		}
		t.row(code(key), value, meaning)
	}
	return t.String()
}

// nameSuffix is that of keys for one service, in katalog-sync's annotations.
const nameSuffix = "-NAME"

// dialectTable returns the table of a dialect's annotations, without the prefixes. An annotation for one service stands with the
// one for all.
func dialectTable(d dialect.Dialect) string {
	t := newTable("annotation", "becomes", "what is different")
	keys := dialect.Keys(d)
	for _, k := range keys {
		if strings.HasSuffix(k.Name, nameSuffix) {
			continue
		}
		_, theirs, _ := strings.Cut(k.Name, "/")
		ours := contract.Short(k.Ours)
		if slices.ContainsFunc(keys, func(one dialect.Key) bool { return one.Name == k.Name+nameSuffix }) {
			theirs += "[" + nameSuffix + "]"
			ours += "[.NAME]"
		}
		if k.Ours == "" {
			ours = "nothing"
		} else {
			ours = code(ours)
		}
		t.row(code(theirs), ours, k.Doc)
	}
	return t.String()
}

// adviceTable returns the table of the reasons of the condition, and then of those that only events have.
func adviceTable() string {
	reasons := contract.Reasons()
	for _, e := range contract.Events() {
		if !slices.Contains(reasons, e.Reason) {
			reasons = append(reasons, e.Reason)
		}
	}
	t := newTable("reason", "what to do")
	for _, r := range reasons {
		t.row(code(string(r)), advice[r])
	}
	return t.String()
}

func metaTable() string {
	values := map[string]string{
		contract.MetaExternalSource: code(contract.MetaExternalSourceValue),
		contract.MetaManagedBy:      code(contract.MetaManagedByValue),
		contract.MetaNamespace:      "the pod's namespace",
		contract.MetaPod:            "its name",
		contract.MetaPodUID:         "its UID",
		contract.MetaNode:           "the Kubernetes node's name",
		contract.MetaCluster:        "the chart's `clusterName`, where it is set",
		contract.MetaSyncGeneration: "a counter that makes a lagging agent sync",
	}
	t := newTable("meta key", "value")
	for _, key := range contract.MetaKeys() {
		t.row(code(key), values[key])
	}
	return t.String()
}

// table is a Markdown table.
type table struct{ strings.Builder }

func newTable(head ...string) *table {
	t := &table{}
	t.row(head...)
	t.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	return t
}

// row adds a row. It escapes bars, which would end a cell.
func (t *table) row(cells ...string) {
	for _, cell := range cells {
		t.WriteString("| " + strings.ReplaceAll(cell, "|", `\|`) + " ")
	}
	t.WriteString("|\n")
}

func code(text string) string { return "`" + text + "`" }
