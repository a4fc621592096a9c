// Package agentlet is the registrar that runs in each injected pod. It keeps the pod's services in Consul equal to the pod, and the
// pod's readiness gate equal to Consul's catalog.
//
// One goroutine owns all that is known, the state, and goes through four steps:
//
//   - observe: what the API server says of the pod, and what came of commands, is taken into the state;
//   - decide: what the gate and the events should say; pure (decide.go);
//   - plan: which commands should be in flight; pure (plan.go, and each concern's own part);
//   - handle: commands are started and cancelled so that those in flight are the planned ones (runner.go), and each outcome is taken
//     into the state by its command's own handler.
//
// A file is about one concern, with its state, its part of the plan, its commands and their outcomes: pod, agent, service, register,
// checks, catalog, gate, condition, containers, session, overrides, events, drain. Adapters implement ports.go: agentlet/consul,
// agentlet/kube and agentlet/probe; agentlet/api serves HTTP.
//
// Words: an instance is one service of the pod at its node's Consul agent. It is confirmed when the catalog has shown it as it was
// put, and converged when it is all that the pod asks for. A generation counts changes, so that what was read before one is not
// taken for what is so after it. A resync makes an agent whose catalog lags sync again, with a changed sync generation.
package agentlet
