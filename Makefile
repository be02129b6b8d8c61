# Everything that is built, tested or made. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X vault-mcp/telemetry.version=$(VERSION) -X vault-mcp/telemetry.commit=$(COMMIT)
TOOLS   := bin/tools
CLIENTS := testdata/clients/node_modules/.installed
FUZZTIME ?= 60s

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: build
build: ## build bin/vault-mcp
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/vault-mcp .

.PHONY: run
run: build ## a real Vault, demo secrets and the server, with nothing to configure
	@bin/vault-mcp dev

.PHONY: devstack
devstack: build ## find or build the servers that development and tests use
	@bin/vault-mcp dev --prepare

.PHONY: test
test: devstack $(CLIENTS) ## all tests, against the real servers
	go test -timeout 20m ./...

.PHONY: race
race: devstack $(CLIENTS) ## all tests, with the race detector
	go test -race -timeout 30m ./...

.PHONY: check
check: tidy-check lint race ## what must hold before a commit lands

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME (60s)
	@for target in $$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | cut -d' ' -f2); do \
		dir=$$(dirname "$$(grep -rlE --include='*_test.go' "^func $$target\(" . | head -1)"); \
		echo "== $$dir $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$dir"; \
	done

.PHONY: bench
bench: devstack ## compare with direct calls and a bare SDK server, in one run
	go test -run '^$$' -bench '^Benchmark(Compare|Engines|Start|Memory|Notice|Followers)$$' -benchtime 1x -timeout 30m .

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## gofumpt, go vet and golangci-lint
	@bad=$$($(TOOLS)/gofumpt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofumpt: $$bad"; exit 1; }
	go vet ./...
	$(TOOLS)/golangci-lint run

.PHONY: vuln
vuln: $(TOOLS)/golangci-lint ## known vulnerabilities in what is used
	$(TOOLS)/govulncheck ./...

.PHONY: gen
gen: ## make the generated files anew; the tests fail on one that is not current
	go test ./tools ./cli -run 'Golden|Docs' -update

.PHONY: tidy-check
tidy-check:
	go mod tidy -diff

.PHONY: cover
cover: devstack $(CLIENTS) ## coverage of all tests, by function
	go test -timeout 20m -coverpkg ./... -coverprofile cover.out ./...
	go tool cover -func cover.out | tail -1

.PHONY: clients
clients: $(CLIENTS) ## other people's MCP clients, for the tests

$(CLIENTS): testdata/clients/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is needed for the MCP clients that the tests use: apt-get install nodejs npm'; exit 1; }
	cd testdata/clients && npm ci --no-audit --no-fund
	touch $@

$(TOOLS)/golangci-lint: .ci/tools/go.mod .ci/tools/go.sum
	cd .ci/tools && go build -o ../../$(TOOLS)/ tool
	touch $@
