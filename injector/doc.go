// Package injector decides what happens to a pod at admission: a patch, a skip with a reason, or a denial with every
// error. It is pure: a pod in, a decision out; no network, no clock, no randomness.
//
// The patch is composed of add operations, each from a typed decision: fields that this build doesn't know are never touched,
// but for those of a preStop hook that is chained to the drain hook, which takes its place. Injection is an idempotent
// reconcile. It adds what is missing: all of it to a fresh pod, one hook to a container that a later webhook brought, nothing
// to its own result.
package injector
