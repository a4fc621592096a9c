// Package manifests reads Kubernetes manifests as a person keeps them, finds the pods and pod templates in them, has each
// judged by the injector, and writes the manifests back with the agentlet in. It is the webhook's code that judges, so
// what it says is what the webhook would do.
//
// It reads what kubectl reads; what kubectl refuses or passes over is an error. Every note names the file and the line.
//
// What is not changed is returned byte for byte. To a changed document its additions are put in its text. Where the text has no
// place for one, the document is encoded anew, with its comments and the order of its keys. These are lost, with a warning, only
// where an alias or a merge repeats an addition or leads to its place.
package manifests
