package dashboard

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
)

// queryModel is a query of any data source, in Grafana's types.
type queryModel = variants.Dataquery

const (
	// selected are the matchers of an agentlet's metric: the selected clusters and namespaces. Series without a label match ".*".
	selected = `cluster=~"$cluster",namespace=~"$namespace"`
	in       = `{` + selected + `}`
	// of restricts a metric of the webhook or the API server to the selected clusters.
	of = `{cluster=~"$cluster"}`
	// webhooks are the webhooks as the API server counts its calls to them.
	webhooks = `{cluster=~"$cluster",name=~"(inject|workloads).agentlet.dev"}`
	// calls are those that the API server could not deliver: it has answered itself, by the webhook's failurePolicy.
	calls = `{cluster=~"$cluster",name=~"(inject|workloads).agentlet.dev",error_type="calling_webhook_error"}`
)

// closedFor are the pods whose gate has been closed for so many seconds, by the time when it closed. The reasons that match
// except are left out.
func closedFor(seconds, except string) string {
	return `max by (cluster, namespace, pod, node, reason) (
  (agentlet_gate_reason{` + selected + `,reason!~"` + except + `"} == 1)
  * on (cluster, namespace, pod) group_left () max by (cluster, namespace, pod) (
    agentlet_gate_last_transition_timestamp_seconds` + in + ` < time() - ` + seconds + `
    and agentlet_gate_open` + in + ` == 0
  )
)`
}

// stuck has a row for each service of each pod that is stuck, with the time, in milliseconds, since when it is; a pod whose
// services aren't known has one without.
func stuck() string {
	pods := closedFor("60", "Draining")
	return `1000 * (
  max by (cluster, namespace, pod, node, service) (agentlet_service_info` + in + `)
  * on (cluster, namespace, pod, node) group_left (reason)
  ` + pods + `
  or on (cluster, namespace, pod)
  ` + pods + `
)`
}

// newSince are the series that are there at a step, and were not at the one before: each of a pod that has just got its value.
// series has a %s where an offset goes.
func newSince(series string) string {
	return fmt.Sprintf(series+" unless "+series, "", " offset $__interval")
}

func annotations() []annotation {
	came := `agentlet_gate_open` + in + ` unless agentlet_gate_open` + in + ` offset 5m`
	went := `agentlet_gate_open` + in + ` offset 5m unless agentlet_gate_open` + in
	version := `group by (cluster, version) (agentlet_webhook_build_info` + of + `)`
	before := `group by (cluster, version) (agentlet_webhook_build_info` + of + ` offset 5m)`
	return []annotation{
		{
			name: "Rollouts", colour: "blue",
			expression: `count by (cluster, namespace) (` + came + `) and count by (cluster, namespace) (` + went + `)`,
			title:      "Pods of {{namespace}} are replaced", text: "Within five minutes some came and some went: a rollout, or a drained node.", tags: "namespace",
		},
		{
			name: "Upgrades", colour: "purple",
			expression: version + ` unless ` + before,
			title:      "Webhook {{version}}", text: "A replica of this version has started.", tags: "version",
		},
	}
}

func rows() []row {
	return []row{
		{
			"Who is stuck",
			[]panel{
				{
					title: "Pods with an agentlet", unit: short, description: "Agentlets that are scraped.",
					queries: []query{{`count(agentlet_gate_open` + in + `)`, ""}},
				},
				{
					title: "Closed gates", unit: short, description: "Pods that start, end, or wait. In a rollout there are some.",
					queries: []query{{`count(agentlet_gate_open` + in + ` == 0) or vector(0)`, ""}},
				},
				{
					title: "Stuck", unit: short, redFrom: new(1.), runbook: "my-pod-is-not-ready",
					description: "Pods whose gate has been closed for a quarter of an hour, and not for the containers' sake: they wait for Consul.",
					queries:     []query{{`count(` + closedFor("900", "ContainersNotReady|Draining|CopiedPod") + `) or vector(0)`, ""}},
				},
				{
					title: "Nodes without Consul", unit: short, redFrom: new(1.), runbook: "consul-is-out-of-reach",
					description: "Nodes none of whose agentlets reaches the Consul agent, or whose agent has no cluster leader. Pods, where the scrape names no node.",
					queries: []query{{
						`count(max by (cluster, node) (agentlet_consul_reachable{` + selected + `,node!=""}) == 0` +
							` or max by (cluster, namespace, pod, instance) (agentlet_consul_reachable{` + selected + `,node=""}) == 0) or vector(0)`, "",
					}},
				},
				{
					title: "Pods whose gate is closed for over a minute", kind: rowsOfPods, runbook: "the-gates-reasons",
					description: "The reason says what each waits for. kubectl agentlet status says what to do, and the pod's condition what is known of it.",
					queries:     []query{{stuck(), ""}},
				},
			},
		},
		{
			"Pods",
			[]panel{
				{
					title: "Gates", kind: heat, unit: seconds,
					description: "Of the pods whose gate was opened in the last hour: the time from ready containers to the open gate.",
					queries:     []query{{newSince(`agentlet_time_to_gate_seconds` + in + `%s`), ""}},
				},
				{
					title: "Drains", kind: heat, unit: seconds, runbook: "requests-fail-in-a-rollout",
					description: "Of the pods that ended in the last hour: the time until the catalog had dropped them, or it was given up. A sample: an agentlet ends soon after its drain, and only some are scraped before.",
					queries: []query{{
						newSince(`last_over_time(agentlet_time_to_drain_seconds{` + selected + `,outcome!~"waiting|nothing"}[$__interval]%s)`), "",
					}},
				},
				{
					title: "Gates by reason", kind: lines, unit: short, description: "What the gates say now.", runbook: "the-gates-reasons",
					queries: []query{{`sum by (reason) (agentlet_gate_reason` + in + `) > 0`, "{{reason}}"}},
				},
				{
					title: "Drains by outcome", kind: lines, unit: short, runbook: "requests-fail-in-a-rollout",
					description: "Pods by how their drain ended, within five minutes; a sample, too.",
					queries: []query{{
						`count by (outcome) (last_over_time(agentlet_time_to_drain_seconds{` + selected + `,outcome!="waiting"}[5m]))`, "{{outcome}}",
					}},
				},
				{
					title: "Pods that miss heartbeats", kind: lines, unit: short, runbook: "consul-is-out-of-reach",
					description: "By node, those that missed two or more within five minutes. After three in a row an instance goes critical.",
					queries: []query{{
						`count by (cluster, node) (increase(agentlet_heartbeats_missed_total` + in + `[5m]) >= 2)`, "{{cluster}} {{node}}",
					}},
				},
				{
					title: "Re-registrations", kind: lines, unit: rate, runbook: "instances-go-missing",
					description: "By their cause. Lost: the Consul agent had forgotten an instance. Resync: the catalog lagged.",
					queries: []query{{
						`sum by (cause) (rate(agentlet_registrations_total{` + selected + `,cause!="first"}[$__rate_interval]))`, "{{cause}}",
					}},
				},
				{
					title: "Requests that failed", kind: lines, unit: rate,
					description: "To Consul, to the API server, and to probed containers.",
					queries: []query{{
						`sum by (operation, outcome) (rate(agentlet_requests_total{` + selected + `,outcome!~"ok|absent"}[$__rate_interval])) > 0`,
						"{{operation}}: {{outcome}}",
					}},
				},
				{
					title: "Time of a request", kind: lines, unit: seconds, description: "On average, without those that wait for a change.",
					queries: []query{{
						`sum by (operation) (rate(agentlet_request_duration_seconds_sum` + in + `[$__rate_interval])) / sum by (operation) (rate(agentlet_request_duration_seconds_count` + in + `[$__rate_interval])) > 0`,
						"{{operation}}",
					}},
				},
				{
					title: "Versions", kind: lines, unit: short,
					description: "Agentlets by their version: running pods keep theirs until they are replaced.",
					queries:     []query{{`count by (version) (agentlet_build_info` + in + `)`, "{{version}}"}},
				},
			},
		},
		{
			"Webhook",
			[]panel{
				{
					title: "Replicas ready", unit: short, redBelow: new(1.), runbook: "pods-cant-be-created",
					description: "Replicas whose /readyz says 200. Without one, pods with an agentlet are not created.",
					queries:     []query{{`sum(agentlet_webhook_ready` + of + `) or vector(0)`, ""}},
				},
				{
					title: "Certificate: left of its time", unit: share, redBelow: new(.15), runbook: "certificates",
					description: "The least of the replicas'. It is renewed at a third; below 15 % something keeps it from that.",
					queries: []query{{
						`min((agentlet_webhook_certificate_expiry_timestamp_seconds` + of + ` - time()) / (agentlet_webhook_certificate_expiry_timestamp_seconds` + of + ` - agentlet_webhook_certificate_not_before_timestamp_seconds` + of + `))`, "",
					}},
				},
				{
					title: "Replicas not trusted", unit: short, redFrom: new(1.), runbook: "certificates",
					description: "Replicas whose certificate the API server does not trust.",
					queries:     []query{{`count(agentlet_webhook_ca_bundle_in_sync` + of + ` == 0) or vector(0)`, ""}},
				},
				{
					title: "Accounts granted", unit: short, description: "Service accounts that are bound for injected pods.",
					queries: []query{{`sum(max by (cluster) (agentlet_webhook_granted_accounts` + of + `))`, ""}},
				},
				{
					title: "Admissions", kind: lines, unit: rate, runbook: "nothing-is-injected",
					description: "Requests of the API server by what became of them.",
					queries: []query{{
						`sum by (outcome, reason) (rate(agentlet_webhook_admissions_total` + of + `[$__rate_interval])) > 0`, "{{outcome}}: {{reason}}",
					}},
				},
				{
					title: "Calls that failed", kind: lines, unit: rate, runbook: "pods-cant-be-created",
					description: "The API server's own counts of calls that did not get to the webhook: what it refused then, and what it let pass. Empty where the API server isn't scraped.",
					queries: []query{
						{`sum by (name) (rate(apiserver_admission_webhook_rejection_count` + calls + `[$__rate_interval])) > 0`, "refused by {{name}}"},
						{`sum by (name) (rate(apiserver_admission_webhook_fail_open_count` + webhooks + `[$__rate_interval])) > 0`, "passed by {{name}}"},
					},
				},
				{
					title: "Time of an admission", kind: lines, unit: seconds, description: "What each pod's creation waits for.",
					queries: []query{
						{
							`histogram_quantile(0.5, sum by (le) (rate(agentlet_webhook_admission_duration_seconds_bucket` + of + `[$__rate_interval])))`,
							"median",
						},
						{
							`histogram_quantile(0.99, sum by (le) (rate(agentlet_webhook_admission_duration_seconds_bucket` + of + `[$__rate_interval])))`,
							"99th percentile",
						},
					},
				},
				{
					title: "Grants", kind: lines, unit: rate, runbook: "my-pod-is-not-ready",
					description: "Role bindings written for injected pods, and attempts that failed.",
					queries: []query{
						{`sum by (change) (rate(agentlet_webhook_grant_changes_total` + of + `[$__rate_interval]))`, "{{change}}"},
						{`sum by (operation) (rate(agentlet_webhook_grant_failures_total` + of + `[$__rate_interval]))`, "failed: {{operation}}"},
					},
				},
			},
		},
	}
}
