# Everything a contributor or CI runs. Tools are pinned in tools.mod, checked
# against tools.sum and built into .cache/, which git ignores.

SHELL       := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CACHE := $(CURDIR)/.cache
BIN   := $(CACHE)/bin
TOOLS := $(BIN)/.built

export GOLANGCI_LINT_CACHE := $(CACHE)/golangci-lint

.PHONY: help dev test lint vet generate generated fips cross race sim bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

dev: ## two regions in one process, on loopback
	go run ./cmd/vault dev

test: vet lint generated cross fips race ## all that CI runs; a skipped test fails

vet:
	go vet ./...

lint: $(TOOLS) ## style and layers (.golangci.yml)
	$(BIN)/golangci-lint run ./...

generate: ## rewrite generated code from api/openapi.yaml
	go generate ./...

generated: ## fail if generated code is not what its sources say
	@sums() { find . -path ./.cache -prune -o -name '*.gen.go' -print0 | sort -z | xargs -0r sha256sum; }; \
	before=$$(sums); go generate ./...; \
	diff <(echo "$$before") <(sums) || { echo 'generated code was out of date: commit what `make generate` wrote' >&2; exit 1; }

# The certified module takes its entropy from the operating system; the newest
# one measures the CPU's jitter, which synctest's clock has none of.
fips: ## build with the certified FIPS 140-3 module, and test with it what seals, signs and hashes, `serve` and `dev`
	GOFIPS140=certified go build -o $(CACHE)/fips/vault ./cmd/vault
	GOFIPS140=certified GODEBUG=fips140=on go test -run 'HKDF|Golden|Vectors|Seal' ./internal/crypto
	GOFIPS140=certified GODEBUG=fips140=on go test ./internal/crypto/localkms ./internal/audit ./internal/authz
	$(CACHE)/fips/vault version | grep 'FIPS 140-3 module v1'
	GOFIPS140=certified GODEBUG=fips140=on go test -run '^TestServe' ./cmd/vault
	GOFIPS140=certified GODEBUG=fips140=on go test -run '^TestDevSurvivesKill9UnderLoad$$' ./test/e2e

cross: ## build for other systems
	for system in darwin/arm64 linux/arm64 windows/amd64; do GOOS=$${system%/*} GOARCH=$${system#*/} go build -o /dev/null ./... || exit 1; done

race: $(TOOLS)
	@$(BIN)/gotestsum --format pkgname-and-test-fails --format-hide-empty-pkg \
		--jsonfile-timing-events $(CACHE)/test.json -- -race -timeout 20m ./...
	@! grep -o '"Action":"skip".*"Test":.*' $(CACHE)/test.json || { echo 'FAIL: a skipped test is a failed test' >&2; exit 1; }

SEED  ?= 1
SEEDS ?= 1000

sim: ## simulated regions: SEED= the first, SEEDS= how many, STEPS=, TWICE=1, TRACE=file; or INTERLEAVINGS=
	@SIM_SEED=$(SEED) SIM_SEEDS=$(SEEDS) SIM_STEPS=$(STEPS) SIM_ONCE=$(if $(TWICE),,1) SIM_TRACE=$(abspath $(TRACE)) \
		SIM_INTERLEAVINGS=$(INTERLEAVINGS) go test ./internal/sim/simulation -count=1 -timeout 0 -v \
		-run '^$(if $(INTERLEAVINGS),TestInterleavings,TestSimulation)$$'

bench: ## codec, and requests as ratios to the floor
	@go run ./bench

$(TOOLS): tools.mod tools.sum
	@mkdir -p $(BIN)
	go build -modfile=tools.mod -o $(BIN)/ github.com/golangci/golangci-lint/v2/cmd/golangci-lint gotest.tools/gotestsum
	@touch $@

clean: ## remove tools, caches and the dev data
	rm -rf $(CACHE) .vault-dev
