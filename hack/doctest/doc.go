// Package doctest tests the documentation. Every link must have a target, and every key, value of the chart and command that a
// page names must exist. Each alert leads to a heading of docs/runbook.md whose text names it, and the metrics and log messages
// of that page exist. A tag after the language of every fenced block selects its test; a block without a known one is an error.
//
//	sh run                           run, in the repository's folder, without a cluster
//	sh check                         read: programs have the subcommands and flags, make the targets, the chart takes what --set
//	                                 says. Commands in the middle of a text are read, too
//	sh cluster                       read as well, and run on the real cluster by TestDocs, block after block
//	yaml pod                         a part of a pod: its annotations alone, or metadata and spec; injected without a warning
//	yaml pod denied                  the same, denied; the next fence has the errors: text errors
//	yaml pod warned                  the same, warned of; the next fence has the warnings: text warnings
//	yaml manifest                    whole objects without an unknown field; pods in it that ask for an agentlet get one
//	yaml values                      values that the chart can be rendered with
//	yaml apiserver                   a file that the API server of the scenarios is started with
//	json consul                      a configuration that Consul accepts
//	yaml admission                   an API server's configuration, with which TestTrustRatesAreBounded has one run
//	hcl policy                       the policy that tests of agentlet/consul hold against a real Consul
//	nginx client, hcl client, …      a file of docs/clients, which the scenarios TestClients… run with the programs that it is for
//	go cluster                       the body of a function that uses e2e/cluster, which a test there compiles
//	yaml consul-k8s                  values of HashiCorp's chart, each of which is in testdata
//	yaml plugin                      a post-renderer, which Helm runs on what HashiCorp's chart says of its clients
//	yaml kustomization               a kustomization beside examples, which renders
//	yaml gitops                      an Application of Argo CD, or an object of Flux; the chart takes the values in it
//	gitcommit message                a commit message of the form that make lint asks for
//	mermaid                          a flowchart; boxes with names of folders name folders of the repository
package doctest
