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

// advice says how to fix a pod whose gate has this reason.
var advice = map[contract.Reason]string{
	contract.Starting: "Wait a moment: the pod has no IP yet, or the agentlet has not seen it. If it stays, look at the " +
		"agentlet's log.",
	contract.ContainersNotReady: "Look at the containers that the message names, as for any pod. One that shall not count goes " +
		"into `container-exclude`.",
	contract.ConsulUnreachable: "Is there a Consul agent on the pod's node, and does it listen on the address in the message, the " +
		"node's IP? \"has no cluster leader\": the agent runs, but has lost its servers. \"TTL check updates time out\": it hangs, " +
		"or a sync waits for its servers; look at its log. With TLS the message says what is wrong with a certificate.",
	contract.LoginFailed: "The message says what Consul's ACL system answered, and what is missing: an auth method, a binding rule for the " +
		"pod's service account, a Secret with a token. [consul.md](consul.md) has them step by step.",
	contract.RegistrationRejected: "The message holds the Consul agent's answer. `Permission denied`: the pod's token lacks " +
		"`service:write` for the name; see [consul.md](consul.md).",
	contract.RegistrationFailed: "The message holds the Consul agent's last answer, such as a full disk or a rate limit. See to it at " +
		"that agent or its servers; the agentlet tries again by itself.",
	contract.InvalidConfiguration: "Correct the annotation that the message names. The last valid registration stays meanwhile.",
	contract.PortConflict: "Something in the pod, or on the node with `hostNetwork`, has the agentlet's port. Choose another with " +
		"`agentlet-port`.",
	contract.AwaitingCatalog: "If the message names checks of the service, correct them or the application. Otherwise the node's agent has it and the servers don't: look at the Consul agent's log for failed syncs " +
		"(`node:write`, `service:write`, a refused node name). If the message names a check of the Consul node, see to that one.",
	contract.Registered: "Nothing. If the pod still isn't Ready, something else keeps it: `kubectl describe pod`.",
	contract.TimedOut: "The pod takes part before the catalog confirmed the registration. See why with [`/status`](#my-pod-is-not-ready), as for `AwaitingCatalog` " +
		"or `ConsulUnreachable`.",
	contract.CatalogLost: "Somebody removed the instance or its node from the catalog. The agentlet puts it back; if it stays, " +
		"look as for `AwaitingCatalog`.",
	contract.Draining: "Nothing: the pod ends. For how long is `drain-timeout` and `drain-delay`.",
	contract.OptedOut: "Nothing: somebody took the pod out on purpose. The message says by what; " +
		"[to have it back](applications.md#taking-one-pod-out-of-service), undo that.",
	contract.CopiedPod: "Nothing, if the copy is for debugging: it gets no requests. To register it, create it without the " +
		"container `agentlet` and its gate: the webhook then adds its own.",
}

// tables returns the tables by name.
func tables() map[string]string {
	return map[string]string{
		"contract-namespace": contractTable(func(k *contract.Key) bool { return strings.HasPrefix(k.Where, "namespace ") }),
		"contract-pod":       contractTable(func(k *contract.Key) bool { return strings.HasPrefix(k.Where, "pod ") && !k.NamespaceDefault() }),
		"contract-settings":  contractTable((*contract.Key).NamespaceDefault),

		"reasons": reasonTable(),
		"advice":  adviceTable(),
		"meta":    metaTable(),
		"events":  eventTable(),

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
	t := newTable("key", "value", "meaning", "default")
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
		value := ""
		if k.Default != "" {
			value = code(k.Default)
		}
		t.row(code(key), k.Form, meaning, value)
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

func reasonTable() string {
	t := newTable("reason", "meaning")
	for _, r := range contract.ReasonDocs() {
		meaning := r.Doc
		t.row(code(string(r.Reason)), meaning)
	}
	return t.String()
}

func adviceTable() string {
	t := newTable("reason", "what to do")
	for _, r := range contract.ReasonDocs() {
		t.row(code(string(r.Reason)), advice[r.Reason])
	}
	return t.String()
}

func eventTable() string {
	t := newTable("type", "reason", "when")
	for _, e := range contract.EventDocs() {
		kind := "Normal"
		if e.Warning {
			kind = "Warning"
		}
		t.row(kind, code(string(e.Reason)), e.Doc)
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
