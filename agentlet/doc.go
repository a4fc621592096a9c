// Package agentlet is the registrar that runs in each injected pod. It keeps the pod's services in Consul equal to the
// pod, and the pod's readiness gate equal to Consul's catalog.
//
// One goroutine owns all that is known, the state, and goes through four steps:
//
//   - observe: what the API server says of the pod, and what came of commands, is taken into the state;
//   - decide: what the gate and the event should say; pure;
//   - plan: which commands should be in flight; pure;
//   - handle: commands are started and cancelled so that those in flight are the planned ones, and each outcome is
//     taken into the state by its command's own handler.
//
// The loop:
//
//	registrar.go  Config, Registrar, Run and Drain.
//	runner.go     starts and cancels commands.
//	command.go    what a command, its policy and its outcome are; the schedule.
//	retry.go      failures and backoff.
//	state.go      all that is known.
//	decide.go     the decision, and plan.go the plan, which asks each concern for its part.
//	ports.go      the interfaces that the adapters implement: agentlet/consul, agentlet/kube, agentlet/probe.
//
// The concerns, each with its state, its part of the plan, its commands and their outcomes:
//
//	pod.go         the pod as the API server has it: readiness, signs of its end.
//	unserved.go    pods that aren't registered whatever their annotations say: opted out, or a copy.
//	containers.go  the containers that the agentlet probes itself, and worker.go one of them.
//	agent.go       the connection with the node's Consul agent.
//	login.go       the session with Consul's ACL system.
//	service.go     one service of the pod, called an instance, and definition.go what the agent shall hold of it.
//	register.go    registering and deregistering it.
//	checks.go      its two TTL checks: heartbeat and readiness.
//	catalog.go     what Consul's catalog shows of it.
//	gate.go        what the readiness gate says and why, condition.go how that is written, message.go the text of an open one.
//	events.go      Kubernetes events about the pod.
//	drain.go       the pod's end.
//	overrides.go   maintenance and tags that the application sets by the local API.
//	metrics.go     the metrics, and status.go the status, that agentlet/api serves.
//
// An instance is confirmed when the catalog has shown it as it was put, and converged when it is all that the pod asks
// for. A generation counts changes, so that what was read before one is not taken for what is so after it. A resync
// makes an agent whose catalog lags sync again, with a changed sync generation.
package agentlet
