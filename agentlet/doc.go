// Package agentlet is the registrar that runs in each injected pod: it observes its own pod and its node's Consul agent,
// plans, and acts.
//
// The heart is plan, a pure function from what is known (state) to what each lane of work should be doing now. The loop
// in Registrar starts and stops work so that it matches the plan, and feeds every result back into the state. Nothing
// else decides anything: the adapters in agentlet/kube and agentlet/consul only observe and act.
package agentlet
