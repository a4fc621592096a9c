// Package registration turns a pod and its annotations into what Consul shall know of it. It is pure: no client, no
// clock, no environment; the injector judges a pod with it at admission, and the agentlet follows a running pod with
// the same code.
//
// A value comes from KEY.NAME for the service NAME, else from KEY, else from the namespace's defaults, else from the
// installation's, else from the contract. There are two forms: the flat keys service-*, and services, a YAML list. Scalars of
// that list are taken as they are written: the tag 1.10 stays "1.10", where YAML itself would read the number 1.1.
//
// Whoever writes annotations has less power than the node's Consul agent, which runs the checks. So a check goes to the
// pod's own IP alone, and an address is the pod's or the node's.
package registration
