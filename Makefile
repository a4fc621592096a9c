# Agentlet. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

OUT     := $(CURDIR)/.out
VERSION ?= dev
IMAGE   ?= agentlet/agentlet:$(VERSION)
# COMPILE are the flags of all that the demo builds, those of hack/toolchain: what has the same is compiled once. The debug
# information that they leave out is what -s -w throws away.
COMPILE := -trimpath -gcflags=all=-dwarf=false
GO      := CGO_ENABLED=0 go
# VERBOSE=-v prints the packages as they are compiled.
VERBOSE ?=
LDFLAGS := -s -w -X github.com/agentlet/agentlet/internal/version.Version=$(VERSION)
# RUN chooses scenarios by a regular expression.
RUN     ?= .
# DURATION and SEED of a campaign of faults; without a seed one is chosen, and told.
DURATION ?= 15m
SEED    ?=
# CONSUL=in-cluster has the demo's Consul run in pods, as examples/consul has it.
CONSUL  ?=

# CLUSTER=current has demo, demo-down and e2e use the kubeconfig's current context. IMAGES says how images come to its nodes: kind, k3d or
# minikube, which the context's name says too; registry (IMAGE=registry/name:tag is pushed); present (it is taken as it is); or command
# (LOAD='a command that takes a tarball').
CLUSTER ?=
IMAGES  ?=
LOAD    ?=
CURRENT = $(GO) run $(COMPILE) ./cmd/run ./cmd/current --cluster='$(CLUSTER)' --images='$(IMAGES)' --load='$(subst ','\'',$(value LOAD))' \
	--image='$(if $(filter command,$(origin IMAGE)),$(IMAGE))' $(if $(PLAIN_HTTP),--plain-http)

# Of a release: the address of the folder in which its archives will be found, and the private key that signs it.
URL =
KEY =
# Where it is pushed to, and the public key that has to verify it before.
REGISTRY =
PUBKEY   =
# PLAIN_HTTP=1 is for a registry without TLS.
PLAIN_HTTP =

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into .out/bin
	@mkdir -p $(OUT)/bin
	@$(GO) build $(VERBOSE) $(COMPILE) -ldflags '$(LDFLAGS)' -o $(OUT)/bin/ ./cmd/agentlet ./cmd/agentlet-webhook ./cmd/kubectl-agentlet

.PHONY: image
image: build ## Build the image as a tarball, .out/image.tar, without a registry
	@cd hack && $(GO) run $(COMPILE) ./cmd/image -o $(OUT)/image.tar -tag $(IMAGE) \
		-file /agentlet=$(OUT)/bin/agentlet -file /agentlet-webhook=$(OUT)/bin/agentlet-webhook
	@echo "$(OUT)/image.tar holds $(IMAGE)"

.PHONY: release
release: ## Make a release in dist/, twice, and compare: make release VERSION=1.2.3 KEY=signing.pem URL=https://…
	@cd hack && SOURCE_DATE_EPOCH="$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)}" \
		go run ./cmd/release -version '$(VERSION)' -ldflags '$(LDFLAGS)' -o $(CURDIR)/dist \
		-url '$(URL)' -key '$(if $(KEY),$(abspath $(KEY)))'

.PHONY: latest
latest: ## Say whether a version is the latest of the releases whose tags are read: make latest VERSION=1.2.3 <TAGS
	@cd hack && go run ./cmd/release -latest -version '$(VERSION)'

.PHONY: publish
publish: ## Push the image and the chart of dist/: make publish VERSION=1.2.3 REGISTRY=registry.example/team PUBKEY=cosign.pub
	@cd hack && go run ./cmd/publish -dist $(CURDIR)/dist -version '$(VERSION)' -registry '$(REGISTRY)' \
		-pubkey '$(if $(PUBKEY),$(abspath $(PUBKEY)))' $(if $(PLAIN_HTTP),-plain-http)

.PHONY: demo
demo: ## Restart pods under load on a real cluster, without Agentlet and with it; CONSUL=in-cluster: Consul in pods; CLUSTER=current: on yours
	@cd e2e && $(if $(CLUSTER),$(CURRENT) demo,AGENTLET_CONSUL='$(CONSUL)' $(GO) run $(COMPILE) ./cmd/run ./cmd/demo up)

.PHONY: demo-down
demo-down: ## End the demo
	@cd e2e && $(if $(CLUSTER),$(CURRENT) down,$(GO) run $(COMPILE) ./cmd/run ./cmd/demo down)

.PHONY: demo-picture
demo-picture: ## Draw the README's picture of what the last demo has measured
	@cp $(OUT)/restart.json docs/images/restart.json
	@cd hack && go generate ./docs

.PHONY: test
test: ## Lint, unit, race, integration and the scenarios that are not long (CI runs exactly this)
	@cd hack && go run ./cmd/check test

.PHONY: consul
consul: ## Run the scenarios about a Consul in pods, as examples/consul has it, on a cluster of their own
	@cd hack && go run ./cmd/check consul

.PHONY: soak
soak: ## Everything, the long scenarios too
	@cd hack && go run ./cmd/check soak

.PHONY: unit
unit: ## Unit and integration tests with the race detector, without e2e's
	@cd hack && go run ./cmd/check unit

.PHONY: unit-e2e
unit-e2e: ## Lint e2e, and run its tests that need no cluster
	@cd hack && go run ./cmd/check unit-e2e

.PHONY: lint
lint: ## Lint all modules but e2e, the workflows and the prose of the docs
	@cd hack && go run ./cmd/check lint

.PHONY: chart
chart: ## Lint, render and unit-test the chart
	@cd hack && go run ./cmd/check chart

.PHONY: scenarios
scenarios: ## Run the scenarios that are not long on the real cluster
	@cd hack && go run ./cmd/check scenarios

.PHONY: e2e
e2e: ## Run chosen scenarios on the real cluster: make e2e RUN=TestBasicRollingRestart; CLUSTER=current: on yours
	@cd e2e && $(if $(CLUSTER),$(CURRENT) e2e --run '$(value RUN)',cd ../hack && go run ./cmd/check e2e --run '$(value RUN)')

.PHONY: chaos
chaos: ## Cause faults at random on the real cluster: make chaos DURATION=30m SEED=7
	@cd hack && go run ./cmd/check chaos --duration '$(DURATION)' --seed '$(SEED)'

.PHONY: bench
bench: ## Measure on the real cluster and print the figures with their targets: make bench RUN=Life
	@cd hack && go run ./cmd/check bench --run '$(value RUN)'

.PHONY: bench-scale
bench-scale: ## Measure how the figures grow with the number of pods, up to 5,000
	@cd hack && go run ./cmd/check bench-scale

.PHONY: bench-go
bench-go: ## Run the Go benchmarks ten times each, into .out/bench.txt
	@mkdir -p $(OUT)
	@go test -run '^$$' -bench . -benchmem -count 10 ./injector ./webhook ./agentlet/... | tee $(OUT)/bench.txt

.PHONY: bench-compare
bench-compare: ## Compare the Go benchmarks with an older run's: make bench-compare BASE=FILE
	@test -f '$(BASE)' || { echo 'BASE=$(BASE): want a file that make bench-go wrote at an older revision'; exit 1; }
	@$(MAKE) bench-go >/dev/null
	@cd hack && go tool benchstat '$(abspath $(BASE))' $(OUT)/bench.txt

FUZZED := agentlet injector webhook internal cmd
.PHONY: fuzz
fuzz: ## Run each fuzz target for 30 seconds
	@for target in $$(grep -rhoE '^func Fuzz[A-Za-z0-9]+' --include='*_test.go' $(FUZZED) | awk '{print $$2}'); do \
		package=$$(dirname $$(grep -rlE "^func $$target\(" --include='*_test.go' $(FUZZED))); \
		echo "$$target in $$package"; go test ./$$package -run '^$$' -fuzz "^$$target$$" -fuzztime 30s; \
	done

.PHONY: generate
generate: ## Write everything that is generated
	@cd hack && go generate ./...
	@go test ./injector -run Golden -update >/dev/null
	@cd e2e && go test ./chaos -run Documented -update >/dev/null

# The modules that make vet looks at, and flags of make fmt: --diff only shows what would change.
MODULES ?= . hack e2e
FMT     =
.PHONY: fmt
fmt: ## Format the Go code of all modules
	@cd hack && go run ./cmd/check fmt $(FMT)

.PHONY: vet
vet: ## Run go vet on all modules
	@for module in $(MODULES); do go vet -C $$module ./...; done

.PHONY: hooks
hooks: ## Have git check format, vet and message before each commit; undo: git config --unset core.hooksPath
	@git config core.hooksPath hack/hooks

.PHONY: verify
verify: ## Fail if something generated is stale, or a module is untidy
	@cd hack && go run ./cmd/check verify

# With which the chart is installed, and what it is given beside the image: make install ARGS='--set consul.port=8501'.
HELM    ?= helm
ARGS    =
.PHONY: install
install: ## Install the chart on kubectl's current context: make install IMAGE=registry.example/team/agentlet:1.2.3
	@image='$(IMAGE)'; $(HELM) upgrade --install agentlet charts/agentlet --namespace agentlet-system --create-namespace --wait \
		--set image.repository="$${image%:*}" --set image.tag="$${image##*:}" $(ARGS)

.PHONY: uninstall
uninstall: ## Remove it again: docs/operating.md says what stays
	@$(HELM) uninstall agentlet --namespace agentlet-system --wait

.PHONY: vulncheck
vulncheck: ## Look for known vulnerabilities in what the code calls, where govulncheck's database can be reached
	@cd hack && go run ./cmd/check vulncheck

.PHONY: clean
clean: ## Remove what was built; the tools' cache stays
	@rm -rf $(OUT)
