// Package manifests reads Kubernetes manifests as a person keeps them, finds the pods and pod templates in them, has each
// judged by the injector, and writes the manifests back with the agentlet in. It is the webhook's code that judges, so
// what it says is what the webhook would do.
//
// What is not changed is returned byte for byte, also in a changed YAML document: lines are inserted between those that are
// there. Where lines can't hold an addition, as in a list in flow style, the document is encoded anew, with its comments and
// the order of its keys. Comments and anchors are lost, with a warning, only where an alias or a merge repeats an addition
// or leads to its place. Every note names the file and the line.
package manifests
