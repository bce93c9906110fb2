# Lemnis. `make` prints what there is. Needs Go, git and make; nothing else has to be installed by hand.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

GOLANGCI_VERSION := v2.15.0
GOLANGCI := bin/tools/golangci-lint-$(GOLANGCI_VERSION)

# A program is a folder with a main.go under cmd/. A glob of what is there, so that a service without one yet does not
# break the build of the others.
PROGRAMS = $(patsubst %/main.go,./%,$(wildcard cmd/*/main.go services/*/cmd/*/main.go))
# There is no module at the root: `work` stands for all modules of go.work, except for tools that want folders.
MODULES = $(shell go list -m -f '{{.Dir}}')
GOFILES = git ls-files --cached --others --exclude-standard '*.go'

TEST_TIMEOUT ?= 15m
TESTFLAGS    ?=
REPORT = go run ./internal/cmd/testreport

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1mmake %-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# As the builder builds what it delivers, so that the demo finds the standard library compiled.
.PHONY: build
build: ## Build every program into bin/
	@mkdir -p bin
	$(if $(strip $(PROGRAMS)),CGO_ENABLED=0 go build -trimpath -o bin/ $(PROGRAMS),@echo "no program is there yet")

# The demo needs one program: linking the others too would cost it half a minute on a cold cache.
.PHONY: demo
demo: ## Turn the whole loop once on a real repository: [REPO=path MAIN=package [BAD=ref]] [KEEP=1]
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/lemnis
	bin/lemnis demo $(if $(REPO),--repo '$(REPO)') $(if $(MAIN),--main '$(MAIN)') $(if $(BAD),--bad '$(BAD)') $(if $(filter-out 0,$(KEEP)),--keep)

# The longest package is named first: most of it waits, which costs the others little.
.PHONY: test
test: ## Run all tests of all modules; skips are counted and listed: [TESTFLAGS=-race]
	@go test -json -timeout $(TEST_TIMEOUT) $(TESTFLAGS) ./test/integration work | $(REPORT)

.PHONY: test-cluster
test-cluster: ## Turn laps on a cluster of containers while each of them is killed in turn: [KILL="nats-1 redis-1"]
	@LEMNIS_TEST_CLUSTER='$(or $(KILL),all)' go test -json -count=1 -timeout 30m -run '^TestLapOfContainersOverKills$$' ./test/integration | $(REPORT)

.PHONY: test-rolling
test-rolling: ## Bring an installation of the version before to this one under load: each service, then each NATS server, restarted in turn
	@LEMNIS_TEST_ROLLING=1 go test -json -count=1 -timeout 15m -run '^TestRollingRestart$$' ./test/integration | $(REPORT)

# Where the modules can not be fetched it skips, and the report says so.
.PHONY: test-foreign
test-foreign: ## Take repositories that nobody here wrote through the builder without configuration: a library, a service, a workspace
	@LEMNIS_TEST_FOREIGN=1 go test -json -count=1 -timeout 30m -run '^TestForeignRepositories$$' ./services/builder | $(REPORT)

.PHONY: check
check: fmt-check vet lint generated ## All that a change must pass: format, vet, lint, generated files, tests with -race
	@$(MAKE) test TESTFLAGS="-race $(TESTFLAGS)"

# The benchmarks behind the rows of the table of goals; one package after the other: nothing else may run beside a measurement.
GOALS = ^Benchmark(Decide|Watermill|Rebuild|Growth|Start|TakeOver|Door|FanOut)$$
# Those of bench-builder and bench-deployer.
WHOLE = ^Benchmark(Queue|Commit|Trigger|Log|Proxy|Rollout|Scale|Judge)$$

.PHONY: bench
bench: ## Measure what has a goal, and print it in a table: [FULL=1 takes longer, and measures the small parts too]
	@LEMNIS_BENCH_FULL=$(if $(filter-out 0,$(FULL)),1) go test -p 1 -run '^$$' -bench '$(GOALS)' -benchtime 1x -count $(if $(filter-out 0,$(FULL)),3,1) \
		-timeout 90m ./internal/service ./services/gateway ./test/bench ./test/integration | go run ./internal/cmd/benchreport
	@$(if $(filter-out 0,$(FULL)),$(MAKE) bench-micro)

.PHONY: bench-micro
bench-micro: ## Measure the small parts: medians of rounds
	@go test -p 1 -run '^$$' -bench . -skip '$(GOALS)|$(WHOLE)' -benchmem -count 3 -benchtime 300ms -timeout 60m work

.PHONY: bench-deployer
bench-deployer: ## Measure the deployer: the canary test beside models of other tools' rules, the proxy beside nginx, rollouts under load, 1,000 services
	@go test -count 1 -run '^$$' -bench '^BenchmarkProxy$$' -benchtime 1x ./services/deployer/proxy
	@go test -count 1 -run '^$$' -bench '^Benchmark(Rollout|Scale)$$' -benchtime 1x ./services/deployer
	@go test -p 1 -count 1 -run '^$$' -bench '^BenchmarkJudge$$' -benchtime 1x -timeout 20m ./services/deployer/canary/simulation

.PHONY: bench-builder
bench-builder: ## Measure the builder: the merge queue beside models of others, a commit beside its commands by hand, an unchanged one, push to first step, a long log
	@bench() { go test -p 1 -count 1 -run '^$$' -bench "^$$1\$$" -benchtime 1x -timeout 20m "$$2"; }; missed=0; \
	bench BenchmarkQueue ./services/builder/mergequeue/simulation || missed=1; \
	bench BenchmarkCommit ./services/builder || missed=1; \
	bench BenchmarkTrigger ./test/integration || missed=1; \
	bench BenchmarkLog ./services/builder/pipeline || missed=1; \
	exit $$missed

# Real processes are killed, stopped, cut off, starved and lied to; what broke a promise makes it fail. Nothing else may run beside it.
.PHONY: chaos
chaos: ## Prove the promise under faults: [SEED=n] [SHORT=1] [FAULT=kill,bus,…]
	@mkdir -p bin/chaos
	go build -o bin/chaos/chaos ./test/chaos/cmd/chaos
	bin/chaos/chaos $(if $(SEED),-seed '$(SEED)') $(if $(filter-out 0,$(SHORT)),-short) $(if $(FAULT),-run '$(FAULT)')

.PHONY: soak
soak: ## A steady load; memory, goroutines and file descriptors have to stay flat: [FOR=10m] [SEED=n]
	@mkdir -p bin/chaos
	go build -o bin/chaos/chaos ./test/chaos/cmd/chaos
	bin/chaos/chaos -soak '$(or $(FOR),10m)' $(if $(SEED),-seed '$(SEED)')

.PHONY: images
images: ## Build the container images; where nothing can be pulled, out of this machine's own programs: [BASE= BUILDER_BASE= PULL=0]
	@deploy/images/build.sh

.PHONY: stack-secrets
stack-secrets: ## Make what is missing of the stack's keys, tokens and passwords
	@mkdir -p bin && CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/lemnis
	@deploy/compose/stack.sh secrets

.PHONY: stack-up
stack-up: stack-secrets ## Start the container stack and wait until it is well: [CLUSTER=1 three NATS servers, two of every service]
	@deploy/compose/stack.sh up

.PHONY: stack-demo
stack-demo: ## Turn the loop once on the running stack: [CLUSTER=1]
	@deploy/compose/stack.sh demo

.PHONY: stack-roll
stack-roll: stack-secrets ## Replace one container after the other, as an upgrade of a cluster does: [CLUSTER=1] [ROLL="nats-1 planner-1"]
	@deploy/compose/stack.sh roll

.PHONY: stack-kill
stack-kill: ## Kill each container of the running cluster in turn, each during a lap, which has to close: [KILL="nats-1 redis-1"]
	@CLUSTER=1 deploy/compose/stack.sh kill

.PHONY: stack-down
stack-down: ## Stop the container stack; its volumes stay: [CLUSTER=1] [VOLUMES=1 removes them]
	@deploy/compose/stack.sh down

.PHONY: fmt
fmt: ## Format all Go files
	@$(GOFILES) | xargs -r gofmt -s -w

.PHONY: fmt-check
fmt-check:
	@diff="$$($(GOFILES) | xargs -r gofmt -s -d)"; \
	if [ -n "$$diff" ]; then echo "$$diff"; echo "not formatted: run make fmt" >&2; exit 1; fi

.PHONY: vet
vet:
	go vet work

.PHONY: lint
lint: $(GOLANGCI) ## Run golangci-lint over all modules
	@$(GOLANGCI) run $(addsuffix /...,$(MODULES))

# Compared before and after, not with the last commit, so that it also holds on a tree with uncommitted work.
.PHONY: generated
generated:
	@state() { git ls-files --cached --others --exclude-standard -z | xargs -0 sha256sum 2>/dev/null || true; }; \
	before="$$(state)"; go generate work; after="$$(state)"; \
	if [ "$$before" != "$$after" ]; then \
		diff <(echo "$$before") <(echo "$$after") || true; echo "generated files were out of date: commit them" >&2; exit 1; fi

.PHONY: tools
tools: $(GOLANGCI) ## Build the pinned tools into bin/tools

# Built outside the workspace, with the tool's own dependencies; the version is in the name, so a new pin rebuilds.
$(GOLANGCI):
	@mkdir -p bin/tools
	GOWORK=off GOBIN='$(CURDIR)/bin/tools' go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@mv bin/tools/golangci-lint $@

# The nats CLI, an official client that a test runs against Lemnis where it was built.
NATS_CLI := bin/tools/nats-v0.5.1
export LEMNIS_NATS_CLI ?= $(abspath $(wildcard $(NATS_CLI)))

.PHONY: tools-nats
tools-nats: $(NATS_CLI) ## Build the pinned nats CLI into bin/tools; make test uses it from then on

$(NATS_CLI):
	@mkdir -p bin/tools
	GOWORK=off GOBIN='$(CURDIR)/bin/tools' go install github.com/nats-io/natscli/nats@v0.5.1
	@mv bin/tools/nats $@

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin
