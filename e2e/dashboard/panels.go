package dashboard

import "github.com/grafana/grafana-foundation-sdk/go/cog/variants"

// queryModel is a query of any data source, in Grafana's types.
type queryModel = variants.Dataquery

// in restricts an agentlet metric to the selected namespaces.
const in = `{namespace=~"$namespace"}`

func rows() []row {
	return []row{
		{
			"Pods",
			[]panel{
				{
					title: "Pods with an agentlet", unit: short, stat: true, description: "Agentlets that are scraped.",
					queries: []query{{`count(agentlet_gate_open` + in + `)`, ""}},
				},
				{
					title: "Closed gates", unit: short, stat: true, bad: 1, description: "Pods that wait for Consul, start, or end.",
					queries: []query{{`count(agentlet_gate_open` + in + ` == 0) or vector(0)`, ""}},
				},
				{
					title: "Without Consul", unit: short, stat: true, bad: 1,
					description: "Pods whose node's Consul agent does not answer in time, or has no cluster leader.",
					queries:     []query{{`count(agentlet_consul_reachable` + in + ` == 0) or vector(0)`, ""}},
				},
				{
					title:       "Missed heartbeats in an hour",
					unit:        short,
					stat:        true,
					bad:         1,
					description: "After three in a row an instance goes critical.",
					queries:     []query{{`sum(increase(agentlet_heartbeats_missed_total` + in + `[1h]))`, ""}},
				},
				{
					title: "Gates by reason", unit: short, description: "What the gates say now.",
					queries: []query{{`sum by (reason) (agentlet_gate_reason` + in + `) > 0`, "{{reason}}"}},
				},
				{
					title: "Time to gate", unit: seconds, description: "From ready containers to the open gate, of the pods that run now.",
					queries: []query{
						{`quantile(0.5, agentlet_time_to_gate_seconds` + in + `)`, "median"},
						{`quantile(0.9, agentlet_time_to_gate_seconds` + in + `)`, "90th percentile"},
						{`max(agentlet_time_to_gate_seconds` + in + `)`, "longest"},
					},
				},
				{
					title:       "Time to drain",
					unit:        seconds,
					description: "A sample: an agentlet ends soon after its drain, and only some are scraped before.",
					queries: []query{
						{`max by (outcome) (max_over_time(agentlet_time_to_drain_seconds` + in + `[$__interval]))`, "{{outcome}}"},
					},
				},
				{
					title:       "Re-registrations",
					unit:        rate,
					description: "By their cause. Lost: the Consul agent had forgotten an instance. Resync: the catalog lagged.",
					queries: []query{
						{
							`sum by (cause) (rate(agentlet_registrations_total{namespace=~"$namespace",cause!="first"}[$__rate_interval]))`,
							"{{cause}}",
						},
					},
				},
				{
					title: "Requests that failed", unit: rate, description: "To Consul, to the API server, and to probed containers.",
					queries: []query{
						{
							`sum by (operation, outcome) (rate(agentlet_requests_total{namespace=~"$namespace",outcome!~"ok|absent"}[$__rate_interval])) > 0`,
							"{{operation}}: {{outcome}}",
						},
					},
				},
				{
					title: "Time of a request", unit: seconds, description: "On average, without those that wait for a change.",
					queries: []query{
						{
							`sum by (operation) (rate(agentlet_request_duration_seconds_sum` + in + `[$__rate_interval])) / sum by (operation) (rate(agentlet_request_duration_seconds_count` + in + `[$__rate_interval])) > 0`,
							"{{operation}}",
						},
					},
				},
				{
					title: "Versions", unit: short, description: "Agentlets by their version: running pods keep theirs until they are replaced.",
					queries: []query{{`count by (version) (agentlet_build_info` + in + `)`, "{{version}}"}},
				},
			},
		},
		{
			"Webhook",
			[]panel{
				{
					title: "Replicas ready", unit: short, stat: true, description: "Replicas whose /readyz says 200.",
					queries: []query{{`sum(agentlet_webhook_ready)`, ""}},
				},
				{
					title: "Certificate valid for", unit: seconds, stat: true, description: "The shortest of the replicas'.",
					queries: []query{{`min(agentlet_webhook_certificate_expiry_timestamp_seconds) - time()`, ""}},
				},
				{
					title: "Replicas not trusted", unit: short, stat: true, bad: 1,
					description: "Replicas whose certificate the API server does not trust.",
					queries:     []query{{`count(agentlet_webhook_ca_bundle_in_sync == 0) or vector(0)`, ""}},
				},
				{
					title: "Accounts granted", unit: short, stat: true, description: "Service accounts that are bound for injected pods.",
					queries: []query{{`max(agentlet_webhook_granted_accounts)`, ""}},
				},
				{
					title:       "Admissions",
					unit:        rate,
					description: "Requests of the API server by what became of them.",
					queries: []query{
						{`sum by (outcome, reason) (rate(agentlet_webhook_admissions_total[$__rate_interval])) > 0`, "{{outcome}}: {{reason}}"},
					},
				},
				{
					title: "Time of an admission", unit: seconds, description: "What each pod's creation waits for.",
					queries: []query{
						{
							`histogram_quantile(0.5, sum by (le) (rate(agentlet_webhook_admission_duration_seconds_bucket[$__rate_interval])))`,
							"median",
						},
						{
							`histogram_quantile(0.99, sum by (le) (rate(agentlet_webhook_admission_duration_seconds_bucket[$__rate_interval])))`,
							"99th percentile",
						},
					},
				},
				{
					title: "Grants", unit: rate, description: "Role bindings written for injected pods, and attempts that failed.",
					queries: []query{
						{`sum by (change) (rate(agentlet_webhook_grant_changes_total[$__rate_interval]))`, "{{change}}"},
						{`sum by (operation) (rate(agentlet_webhook_grant_failures_total[$__rate_interval]))`, "failed: {{operation}}"},
					},
				},
			},
		},
	}
}
