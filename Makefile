# Every verb of the project. `make` alone prints them.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
SHELL := /bin/sh
INSTALLED := node_modules/.package-lock.json
WITH_SCHEMA := $(filter-out platform,$(notdir $(wildcard drizzle/*)))
# The databases of the development folder, unless the environment names others.
DATABASES := $(if $(CONCIERGE_MODE),,--development)

# The browser of test/browser.
CHROMIUM ?= /usr/bin/chromium
# The pooler of test/engines.
PGBOUNCER ?= /usr/sbin/pgbouncer
# The maker of password hashes of test/import.
HTPASSWD ?= /usr/bin/htpasswd

# The reference of bench/auth.
PGBENCH ?= /usr/bin/pgbench

# The clients of interop that have to be built.
GO_CLIENT := .concierge/interop/go-client
PYTHON := .concierge/interop/python
PYTHON_CLIENT := $(PYTHON)/generated/auth_service_pb2.py

# The version of Connect's conformance suite.
CONFORMANCE := v1.0.5

needs = $(if $($1),,$(error say which: $1=...))

.DEFAULT_GOAL := help
.PHONY: help install start demo demo/processes test test/browser test/engines test/import interop conformance \
	bench/rpc bench/feed bench/auth bench/access prove/edge prove/fuzz prove/goaway prove/soak prove/overload prove/revocation \
	prove/refresh prove/enumeration prove/rotation prove/feed prove/access check format gen proto/breaking db/generate migrate migrate/down keys \
	certs clean drift

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install packages, if the lock file is newer than they are

$(INSTALLED): package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

start: $(INSTALLED) ## Run every service in one process, with a real PostgreSQL and a demo account
	@exec node src/main.ts dev

demo: $(INSTALLED) ## Do the whole journey once, on free ports
	@exec node src/main.ts demo

demo/processes: $(INSTALLED) ## The same, with every service in a process of its own
	@exec node src/main.ts demo --processes

test: $(INSTALLED) ## Run the tests, in random order, over a PostgreSQL of their own
	tsx --test --test-global-setup=src/testing/global-setup.ts --test-randomize --test-concurrency=2 \
		"src/**/*.test.ts"

test/browser: $(INSTALLED) $(CHROMIUM) ## Call the whole system from pages in Chromium; installs Debian's if it is missing
	CONCIERGE_TEST_CHROMIUM=$(CHROMIUM) tsx --test "test/browser/*.test.ts"

test/engines: $(INSTALLED) $(PGBOUNCER) ## Run the feed behind PgBouncer; installs Debian's if it is missing
	CONCIERGE_TEST_PGBOUNCER=$(PGBOUNCER) tsx --test --test-global-setup=src/testing/global-setup.ts "test/engines/*.test.ts"

$(PGBOUNCER):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install pgbouncer" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install pgbouncer"
	apt-get update
	apt-get install --yes --no-install-recommends pgbouncer

test/import: $(INSTALLED) $(HTPASSWD) ## Import users with hashes that Apache's htpasswd made; installs Debian's if it is missing
	CONCIERGE_TEST_HTPASSWD=$(HTPASSWD) tsx --test --test-global-setup=src/testing/global-setup.ts "test/import/*.test.ts"

$(HTPASSWD):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install apache2-utils" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install apache2-utils"
	apt-get update
	apt-get install --yes --no-install-recommends apache2-utils

/usr/bin/chromium:
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install chromium" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install chromium"
	apt-get update
	apt-get install --yes --no-install-recommends chromium

interop: $(INSTALLED) .concierge/tools/grpcurl $(GO_CLIENT) $(PYTHON_CLIENT) ## Call with grpcurl and buf curl, and from Python, Go and grpc-js; needs Go and Python 3
	tsx --test --test-global-setup=src/testing/global-setup.ts "interop/*.test.ts"

$(GO_CLIENT): $(wildcard interop/go/*.go interop/go/go.*) interop/legacy/auth_service.proto interop/buf.gen.yaml
	@command -v go > /dev/null || { echo "Building the client in Go needs Go, which is not installed" >&2; exit 1; }
	buf generate interop/legacy --template interop/buf.gen.yaml
	go -C interop/go build -o "$(CURDIR)/$@" .

$(PYTHON_CLIENT): interop/python/requirements.txt interop/legacy/auth_service.proto
	@command -v python3 > /dev/null || { echo "The client in Python needs Python 3, which is not installed" >&2; exit 1; }
	python3 -m venv --clear $(PYTHON)
	$(PYTHON)/bin/pip install --quiet --requirement interop/python/requirements.txt
	mkdir $(@D)
	$(PYTHON)/bin/python -m grpc_tools.protoc -I interop/legacy --python_out=$(@D) --grpc_python_out=$(@D) \
		interop/legacy/auth_service.proto

.concierge/tools/grpcurl:
	@command -v go > /dev/null || { echo "Building grpcurl needs Go, which is not installed" >&2; exit 1; }
	GOBIN="$(CURDIR)/.concierge/tools" go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3

conformance: $(INSTALLED) .concierge/conformance ## Run Connect's conformance suite on server and client (10 minutes); needs Go
	tsc --noEmit --project conformance
	@node conformance/run.ts

.concierge/conformance: .concierge/tools/connectconformance conformance/buf.gen.yaml
	protos="$$(go list -m -f '{{.Dir}}' connectrpc.com/conformance@$(CONFORMANCE))/proto" && \
		buf generate "$$protos" --template conformance/buf.gen.yaml
	@touch $@

.concierge/tools/connectconformance:
	@command -v go > /dev/null || { echo "Building the conformance suite needs Go, which is not installed" >&2; exit 1; }
	GOBIN="$(CURDIR)/.concierge/tools" go install connectrpc.com/conformance/cmd/connectconformance@$(CONFORMANCE)

# It reports, it does not fail: a goal that is short is for whoever reads it.
bench/rpc: $(INSTALLED) .proto-deps ## Report a call's cost beside grpc-js and others (4 minutes; QUICK=1 for one)
	@node src/bench/rpc.ts $(if $(QUICK),--quick)

bench/auth: $(INSTALLED) .proto-deps $(PGBENCH) ## Measure auth beside its references (7 minutes; QUICK=1 for 5); ONLY=tokens, logins, refreshes, registrations or growth
	@node src/bench/auth.ts

bench/access: $(INSTALLED) .proto-deps ## What asking for permissions costs, with 1,000,000 members (10 minutes; QUICK=1: 100,000)
	@node src/bench/access.ts

$(PGBENCH):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install postgresql" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install postgresql"
	apt-get update
	apt-get install --yes --no-install-recommends postgresql

bench/feed: $(INSTALLED) .proto-deps ## Report what the change feed costs writers and readers (10 minutes; QUICK=1 for four)
	@node src/bench/feed.ts

check: $(INSTALLED) .proto-deps drift ## Check format, lint, types, contracts, generated files and unused code
	biome ci --error-on-warnings .
	tsc --noEmit
	buf format --diff --exit-code proto
	buf lint
	knip

drift: $(INSTALLED) .proto-deps ## Generate everything again, elsewhere, and compare
	@mkdir -p .concierge && rm -rf .concierge/drift && mkdir .concierge/drift
	buf generate -o .concierge/drift
	node src/main.ts permissions > .concierge/drift/gen/permissions.ts
	diff -r gen .concierge/drift/gen
	node src/main.ts config | diff .env.example -
	@for service in $(WITH_SCHEMA); do \
		cp -r drizzle/$$service .concierge/drift/$$service && \
		drizzle-kit generate --dialect postgresql --schema src/services/$$service/schema.ts \
			--out .concierge/drift/$$service --name drift > .concierge/drift/log || { cat .concierge/drift/log; exit 1; }; \
		diff -r drizzle/$$service .concierge/drift/$$service || { echo "drizzle/$$service lacks a migration"; exit 1; }; \
	done
	@rm -rf .concierge/drift

format: $(INSTALLED) ## Format code and contracts
	biome check --write .
	buf format -w proto

gen: $(INSTALLED) .proto-deps ## Generate code from proto/, and .env.example from the services' variables
	buf generate
	node src/main.ts permissions > gen/permissions.ts
	node src/main.ts config > .env.example

.proto-deps: $(INSTALLED) src/dev/proto-deps.ts
	node src/dev/proto-deps.ts
	@touch $@

proto/breaking: $(INSTALLED) .proto-deps ## Compare the contracts with those of BASE (default: main)
	@rm -rf .concierge/base && mkdir -p .concierge/base
	git archive $(or $(BASE),main) buf.yaml proto | tar -x -C .concierge/base
	cp -r .proto-deps .concierge/base/
	buf breaking . --against .concierge/base
	@rm -rf .concierge/base

db/generate: $(INSTALLED) ## Write a migration from schema.ts: SERVICE=auth NAME=add_phone
	$(call needs,SERVICE)$(call needs,NAME)drizzle-kit generate --dialect postgresql \
		--schema src/services/$(SERVICE)/schema.ts --out drizzle/$(SERVICE) --name $(NAME)

migrate: $(INSTALLED) ## Apply migrations: all services, or SERVICE=auth
	@node src/main.ts migrate $(SERVICE) $(DATABASES)

migrate/down: $(INSTALLED) ## Undo the newest migration of a service: SERVICE=auth
	@$(call needs,SERVICE)node src/main.ts migrate-down $(SERVICE) $(DATABASES)

keys: $(INSTALLED) ## Make the keys that are missing in FOLDER (default: .concierge/keys)
	@node src/main.ts keys init --keys $(or $(FOLDER),.concierge/keys)

prove/edge: $(INSTALLED) .proto-deps ## Flood the server while somebody else calls it (12 minutes)
	@node src/prove/edge.ts

prove/fuzz: $(INSTALLED) .proto-deps ## Send damaged requests for a minute (FULL=1 for ten); SEED=... repeats a run
	@node src/prove/fuzz.ts

prove/goaway: $(INSTALLED) .proto-deps ## End 10,000 connections while our client asks whether they live (FULL=1: 100,000)
	@node src/prove/goaway.ts

prove/soak: $(INSTALLED) .proto-deps ## Good and bad requests for 15 minutes; memory and files must stay (FULL=1: 4 hours)
	@node src/prove/soak.ts

prove/overload: $(INSTALLED) .proto-deps ## Send twice what the server can do, three ways (5 minutes; FULL=1: 20)
	@node src/prove/overload.ts

prove/revocation: $(INSTALLED) .proto-deps ## Log out, and see how soon each process refuses, also when others stand still (3 minutes; FULL=1: 10)
	@node src/prove/revocation.ts

prove/refresh: $(INSTALLED) .proto-deps ## Race refreshes, logins and kills against each other (2 minutes; FULL=1: 100,000 races); SEED=... repeats a run
	@node src/prove/refresh.ts

prove/enumeration: $(INSTALLED) .proto-deps ## Time answers about accounts that exist and others (5 minutes; QUICK=1 for one); SEED=... repeats a run
	@node src/prove/enumeration.ts

prove/rotation: $(INSTALLED) .proto-deps ## Rotate signing keys 20 times under load (5 minutes; QUICK=1: 3 times)
	@node src/prove/rotation.ts

prove/feed: $(INSTALLED) .proto-deps ## Kill a feed's processes 100 times (4 minutes; FULL=1: 1,000); SEED=... repeats a run
	@node src/prove/feed.ts

prove/access: $(INSTALLED) .proto-deps ## Compare 10,000 random changes of roles and members with an oracle (20 minutes); SEED=... repeats a run
	@node src/prove/access.ts

certs: $(INSTALLED) ## Make certificates for TLS on this machine, where they are missing
	@node src/main.ts certs

clean: ## Remove the development folder: databases, keys, logs
	rm -rf .concierge
