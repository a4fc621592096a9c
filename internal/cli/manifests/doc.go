// Package manifests reads Kubernetes manifests as a person keeps them, finds the pods and pod templates in them, has each
// judged by the injector, and writes the manifests back with the agentlet in. It is the webhook's code that judges, so
// what it says is what the webhook would do.
//
// What is not changed is returned byte for byte. A changed YAML document keeps its comments and the order of its keys;
// only one with anchors or aliases, where an addition could show up in two places, is written anew. Every note names the
// file and the line.
package manifests
