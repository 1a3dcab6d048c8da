# Every verb of the project. `make` alone prints them.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
SHELL := /bin/sh
INSTALLED := node_modules/.package-lock.json
WITH_SCHEMA := $(filter-out platform,$(notdir $(wildcard drizzle/*)))
# The databases of the development folder, unless the environment names others.
DATABASES := $(if $(CONCIERGE_MODE),,--development)

# The browser of test/browser.
CHROMIUM ?= /usr/bin/chromium
# The engines of test/engines: Debian's pooler, Debian's Redis, and a Kafka by Maven.
PGBOUNCER ?= /usr/sbin/pgbouncer
REDIS ?= /usr/bin/redis-server
KAFKA := .concierge/engines/kafka
# The maker of password hashes of test/import.
HTPASSWD ?= /usr/bin/htpasswd

# The proxy of prove/rolling.
HAPROXY ?= /usr/sbin/haproxy

# The reference of bench/auth.
PGBENCH ?= /usr/bin/pgbench

# What test/containers needs: an engine, and a Debian to make stand-ins of the base images from.
DOCKER_ENGINE ?= /usr/sbin/dockerd
DEBIAN := .concierge/engines/debian.tar

# The system in containers: the image, its secrets, and the account that may read them, in the containers, too.
IMAGE ?= concierge
DOCKER_BUILD ?= docker build
CONTAINER_SECRETS := .concierge/containers
CONTAINER_USER = $(shell test "$$(id -u)" = 0 && echo 1000:1000 || echo "$$(id -u):$$(id -g)")
COMPOSE ?= $(shell docker compose version > /dev/null 2>&1 && echo docker compose || echo docker-compose)
IN_CONTAINERS = CONCIERGE_IMAGE=$(IMAGE) CONCIERGE_USER=$(CONTAINER_USER) \
	$(if $(filter redis,$(WITH)),CONCIERGE_REDIS_URL_FILE=/run/secrets/redis-url) \
	$(if $(filter kafka,$(WITH)),CONCIERGE_KAFKA_BROKERS=kafka:9092) \
	$(COMPOSE) --project-name concierge --file deploy/compose.yaml

# The clients of interop that have to be built.
GO_CLIENT := .concierge/interop/go-client
PYTHON := .concierge/interop/python
PYTHON_CLIENT := $(PYTHON)/generated/auth_service_pb2.py
# What backends in these languages call.
CONTRACT := $(wildcard $(addprefix proto/concierge/,$(addsuffix /v1/*.proto,access auth feed options)))

# The contract of the newest release.
RELEASED = $(shell ls proto/released/v*.binpb | sort -V | tail -1)

# The version of Connect's conformance suite.
CONFORMANCE := v1.0.5

# Where `make engines/up` starts the broker, unless the environment names others.
KAFKA_HERE := $(if $(CONCIERGE_KAFKA_BROKERS),,CONCIERGE_MODE=development CONCIERGE_KAFKA_BROKERS=127.0.0.1:9092)

# Runs tests, and notes which passed, for `make coverage`: $(call run-tests,files and flags,variables).
run-tests = mkdir -p .concierge/passed && $2 tsx --import ./src/drizzle-imports.ts --test \
	--test-reporter=spec --test-reporter-destination=stdout \
	--test-reporter=./src/prove/passed-tests.ts --test-reporter-destination=.concierge/passed/$(subst /,-,$@).jsonl $1

needs = $(if $($1),,$(error say which: $1=...))

.DEFAULT_GOAL := help
.PHONY: help install start demo demo/processes demo/containers image up down test/containers test test/browser \
	test/engines engines/up engines/down kafka/topics kafka/consume test/import test/package dist interop conformance \
	bench/rpc bench/feed bench/auth bench/access bench/push bench/sdk prove/edge prove/fuzz prove/goaway prove/soak \
	prove/overload prove/revocation prove/refresh prove/enumeration prove/rotation prove/feed prove/access prove/push \
	check format gen proto/breaking db/generate migrate migrate/down keys bench/kafka prove/kafka prove/outage \
	prove/faults clean drift certs

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Install packages, if the lock file is newer than they are

$(INSTALLED): package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

start: $(INSTALLED) ## Run every service in one process, with a real PostgreSQL and a demo account
	@exec node src/main.ts dev

demo: $(INSTALLED) ## Do the whole journey once, on free ports; or over the system at BASE, whose push stand-in is at PUSHES
	@exec node src/main.ts demo $(if $(BASE),--base '$(BASE)' --pushes '$(PUSHES)')

demo/processes: $(INSTALLED) ## The same, with every service in a process of its own
	@exec node src/main.ts demo --processes

demo/containers: ## The same, over the system that `make up` has started
	@$(IN_CONTAINERS) --profile journey run --rm journey

image: ## Build the image of every service (IMAGE=concierge; NODE_IMAGE for another base than node:24-slim)
	$(DOCKER_BUILD) --quiet --file deploy/Dockerfile --tag $(IMAGE) \
		$(if $(NODE_IMAGE),--build-arg NODE_IMAGE=$(NODE_IMAGE)) .

up: $(INSTALLED) image ## Run every service in a container of its own, each with its own database; WITH="redis kafka" for more
	@node src/main.ts keys containers --folder $(CONTAINER_SECRETS)
	@test "$$(id -u)" != 0 || chown -R $(CONTAINER_USER) $(CONTAINER_SECRETS)
	@$(IN_CONTAINERS) $(addprefix --profile ,$(WITH)) up --detach
	@node deploy/wait.js

down: ## Stop them, and remove containers, networks, data, and the secrets of these
	@$(IN_CONTAINERS) --profile redis --profile kafka --profile journey down --volumes --remove-orphans
	@rm -rf $(CONTAINER_SECRETS)

test: $(INSTALLED) ## Run the tests, in random order, over a PostgreSQL of their own
	$(call run-tests,--test-global-setup=src/testing/global-setup.ts --test-randomize --test-concurrency=2 \
		"src/**/*.test.ts")

test/browser: $(INSTALLED) $(CHROMIUM) ## Call the whole system from pages in Chromium; installs Debian's if it is missing
	$(call run-tests,"test/browser/*.test.ts",CONCIERGE_TEST_CHROMIUM=$(CHROMIUM))

test/engines: $(INSTALLED) $(PGBOUNCER) $(REDIS) $(KAFKA) ## Run beside PgBouncer, Redis (Debian's, installed if missing) and Kafka (by Maven, on a JDK)
	$(call run-tests,--test-global-setup=src/testing/global-setup.ts --test-concurrency=2 "test/engines/*.test.ts",\
		CONCIERGE_TEST_PGBOUNCER=$(PGBOUNCER) CONCIERGE_TEST_REDIS=$(REDIS))

engines/up: $(INSTALLED) $(REDIS) $(KAFKA) ## Start Kafka and Redis on this machine, with data in .concierge/engines
	@node test/engines/main.ts up

engines/down: $(INSTALLED) ## Stop them
	@node test/engines/main.ts down

kafka/topics: $(INSTALLED) ## Make Kafka's missing topics (PARTITIONS, REPLICATION), on this machine or where CONCIERGE_KAFKA_BROKERS says
	@$(KAFKA_HERE) node src/main.ts kafka topics $(if $(PARTITIONS),--partitions $(PARTITIONS)) \
		$(if $(REPLICATION),--replication $(REPLICATION))

kafka/consume: $(INSTALLED) ## Print events as they come to Kafka's topics (TOPIC for one of them), until Ctrl-C
	@$(KAFKA_HERE) node src/main.ts kafka consume $(if $(TOPIC),--topic $(TOPIC))

$(KAFKA): test/engines/kafka/pom.xml
	@command -v java > /dev/null || { echo "Kafka needs Java (a JDK or JRE, 17 or newer), which is not installed" >&2; exit 1; }
	@command -v mvn > /dev/null || { echo "Fetching Kafka needs Maven (mvn), which is not installed" >&2; exit 1; }
	rm -rf $@.new $@
	mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DincludeScope=runtime \
		-DoutputDirectory="$(CURDIR)/$@.new"
	mv $@.new $@ && touch $@

$(REDIS):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install redis-server" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install redis-server"
	apt-get update
	apt-get install --yes --no-install-recommends redis-server

$(PGBOUNCER):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install pgbouncer" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install pgbouncer"
	apt-get update
	apt-get install --yes --no-install-recommends pgbouncer

test/import: $(INSTALLED) $(HTPASSWD) ## Import users with hashes that Apache's htpasswd made; installs Debian's if it is missing
	$(call run-tests,--test-global-setup=src/testing/global-setup.ts "test/import/*.test.ts",\
		CONCIERGE_TEST_HTPASSWD=$(HTPASSWD))

$(HTPASSWD):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install apache2-utils" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install apache2-utils"
	apt-get update
	apt-get install --yes --no-install-recommends apache2-utils

test/containers: $(INSTALLED) $(DOCKER_ENGINE) $(DEBIAN) ## Build the image and run the system in containers, over stand-ins of the base images (6 minutes)
	$(call run-tests,"test/containers/*.test.ts",CONCIERGE_TEST_DEBIAN=$(DEBIAN))

$(DOCKER_ENGINE):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install docker.io" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's packages: apt-get install docker.io docker-compose"
	apt-get update
	apt-get install --yes --no-install-recommends docker.io docker-compose iptables

$(DEBIAN):
	@command -v debootstrap > /dev/null || { apt-get update && apt-get install --yes --no-install-recommends debootstrap; }
	rm -rf $@.folder && mkdir -p $@.folder
	debootstrap --variant=minbase --include=ca-certificates,redis-server bookworm $@.folder > /dev/null
	rm -rf $@.folder/var/cache/apt/archives $@.folder/var/lib/apt/lists
	tar -C $@.folder -cf $@.new . && rm -rf $@.folder && mv $@.new $@

.PHONY: test/kubernetes
test/kubernetes: $(INSTALLED) .concierge/tools/kustomize .concierge/tools/kubectl-validate ## Build the manifests of deploy/kubernetes, validate them, and start from their settings; needs Go
	$(call run-tests,--test-concurrency=1 "test/kubernetes/*.test.ts")

.concierge/tools/kustomize:
	@command -v go > /dev/null || { echo "Building kustomize needs Go, which is not installed" >&2; exit 1; }
	GOBIN="$(CURDIR)/.concierge/tools" go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1

.concierge/tools/kubectl-validate:
	@command -v go > /dev/null || { echo "Building kubectl-validate needs Go, which is not installed" >&2; exit 1; }
	GOBIN="$(CURDIR)/.concierge/tools" go install sigs.k8s.io/kubectl-validate@v0.0.4

# Without $(INSTALLED): npm runs it before it packs, and then nothing may be installed.
dist: ## Compile what the package has into dist/; npm pack does it, too
	@rm -rf $@
	@tsc --project tsconfig.package.json
	@cp -r drizzle $@/
	@for page in $$(find src -name '*.html'); do cp "$$page" "$${page%.html}.js" "$@/$$(dirname "$$page")/" || exit 1; done

test/package: $(INSTALLED) ## Pack the package, install it in clean folders, and use it there as other teams do (2 minutes)
	$(call run-tests,"test/package/*.test.ts")

/usr/bin/chromium:
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install chromium" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install chromium"
	apt-get update
	apt-get install --yes --no-install-recommends chromium

interop: $(INSTALLED) .concierge/tools/grpcurl $(GO_CLIENT) $(PYTHON_CLIENT) ## Call with grpcurl and buf curl, and from Python, Go and grpc-js; needs Go and Python 3
	$(call run-tests,--test-global-setup=src/testing/global-setup.ts "interop/*.test.ts")

$(GO_CLIENT): $(wildcard interop/go/*.go interop/go/go.*) interop/legacy/auth_service.proto $(CONTRACT) \
		$(wildcard interop/buf.gen*.yaml) | .proto-deps
	@command -v go > /dev/null || { echo "Building the client in Go needs Go, which is not installed" >&2; exit 1; }
	buf generate interop/legacy --template interop/buf.gen.yaml
	buf generate --template interop/buf.gen.contract.yaml
	go -C interop/go build -o "$(CURDIR)/$@" .

$(PYTHON_CLIENT): $(PYTHON)/installed interop/legacy/auth_service.proto $(CONTRACT) | .proto-deps
	mkdir -p $(@D)
	$(PYTHON)/bin/python -m grpc_tools.protoc -I interop/legacy --python_out=$(@D) --grpc_python_out=$(@D) \
		interop/legacy/auth_service.proto
	$(PYTHON)/bin/python -m grpc_tools.protoc -I proto -I .proto-deps --python_out=$(@D) --grpc_python_out=$(@D) \
		$(CONTRACT) buf/validate/validate.proto

$(PYTHON)/installed: interop/python/requirements.txt
	@command -v python3 > /dev/null || { echo "The client in Python needs Python 3, which is not installed" >&2; exit 1; }
	python3 -m venv --clear $(PYTHON)
	$(PYTHON)/bin/pip install --quiet --requirement interop/python/requirements.txt
	@touch $@

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

bench/sdk: $(INSTALLED) .proto-deps ## What the client costs its caller, in time and memory (6 minutes; QUICK=1 for two)
	@node --expose-gc src/bench/sdk.ts

bench/push: $(INSTALLED) .proto-deps ## How fast and how soon notifications are pushed (5 minutes; QUICK=1 for 3); ONLY=throughput, latency or growth
	@node src/bench/push.ts

$(PGBENCH):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install postgresql" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install postgresql"
	apt-get update
	apt-get install --yes --no-install-recommends postgresql

bench/kafka: $(INSTALLED) .proto-deps $(KAFKA) ## How fast and how soon events come to Kafka, beside a bare producer (5 minutes; QUICK=1 for one)
	@node src/bench/kafka.ts

bench/feed: $(INSTALLED) .proto-deps ## Report what the change feed costs writers and readers (10 minutes; QUICK=1 for four)
	@node src/bench/feed.ts

check: $(INSTALLED) .proto-deps drift proto/breaking ## Check format, lint, types, contracts, dependencies, generated files and unused code
	node src/dev/dependencies.ts
	biome ci --error-on-warnings .
	tsc --noEmit
	buf format --diff --exit-code proto
	buf format --diff --exit-code examples/catalog/proto
	buf lint
	buf lint examples/catalog
	knip

.PHONY: audit
audit: $(INSTALLED) ## Ask the registry for advisories about our packages; fails if there are any, and if it does not answer
	@mkdir -p .concierge
	@if npm audit > .concierge/audit.txt 2>&1; then echo "The registry knows of no advisory about our packages"; \
	else cat .concierge/audit.txt; grep -q "npm audit report" .concierge/audit.txt || \
		echo "The registry did not answer: nothing is known about advisories" >&2; exit 1; fi

.PHONY: sbom
sbom: $(INSTALLED) ## Write the list of all packages with versions and licences (CycloneDX), to .concierge/sbom.json
	@mkdir -p .concierge
	npm sbom --sbom-format cyclonedx > .concierge/sbom.json

drift: $(INSTALLED) .proto-deps ## Generate everything again, elsewhere, and compare
	@mkdir -p .concierge && rm -rf .concierge/drift && mkdir .concierge/drift
	buf generate -o .concierge/drift
	node src/main.ts permissions > .concierge/drift/gen/permissions.ts
	diff -r gen .concierge/drift/gen
	cd examples/catalog && buf generate -o ../../.concierge/drift/catalog && diff -r gen ../../.concierge/drift/catalog/gen
	node src/main.ts config | diff .env.example -
	node src/main.ts network-policies | diff deploy/kubernetes/base/network-policies.yaml -
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
	buf format -w examples/catalog/proto

gen: $(INSTALLED) .proto-deps ## Generate code and network policies from proto/, and .env.example from the services' variables
	buf generate
	cd examples/catalog && buf generate
	node src/main.ts permissions > gen/permissions.ts
	node src/main.ts config > .env.example
	node src/main.ts network-policies > deploy/kubernetes/base/network-policies.yaml

.proto-deps: $(INSTALLED) src/dev/proto-deps.ts
	node src/dev/proto-deps.ts
	@touch $@

proto/breaking: $(INSTALLED) .proto-deps ## Compare the contracts with those of the newest release, or of the commit BASE
	$(if $(BASE),@rm -rf .concierge/base && mkdir -p .concierge/base && \
		git archive $(BASE) buf.yaml proto | tar -x -C .concierge/base && cp -r .proto-deps .concierge/base/)
	buf breaking proto --exclude-imports --against $(if $(BASE),.concierge/base/proto,$(RELEASED))
	@rm -rf .concierge/base

.PHONY: release
release: $(INSTALLED) .proto-deps ## Keep this version's contract (proto/released) and databases (released/) to upgrade from; never twice
	@node src/release/main.ts

db/generate: $(INSTALLED) ## Write a migration from schema.ts: SERVICE=auth NAME=add_phone
	$(call needs,SERVICE)$(call needs,NAME)drizzle-kit generate --dialect postgresql \
		--schema src/services/$(SERVICE)/schema.ts --out drizzle/$(SERVICE) --name $(NAME)

migrate: $(INSTALLED) ## Apply migrations: all services, or SERVICE=auth; PLAN=1 prints which, and changes nothing
	@node src/main.ts migrate $(SERVICE) $(if $(PLAN),--plan) $(DATABASES)

migrate/down: $(INSTALLED) ## Undo the newest migration of a service: SERVICE=auth
	@$(call needs,SERVICE)node src/main.ts migrate-down $(SERVICE) $(DATABASES)

keys: $(INSTALLED) ## Make the keys that are missing in FOLDER (default: .concierge/keys)
	@node src/main.ts keys init --keys $(or $(FOLDER),.concierge/keys)

.PHONY: prove
prove: $(INSTALLED) .proto-deps ## All proofs, each in its quick profile, and one table of their goals (30 minutes); ONLY="rotation push"
	@node src/prove/all.ts

.PHONY: coverage
coverage: $(INSTALLED) ## Write docs/coverage.md: which cases the last runs of all suites and of make prove have proven
	@node src/prove/coverage.ts

prove/kafka: $(INSTALLED) .proto-deps $(KAFKA) ## Kill and stop relays and their broker, then leave it away for a minute (7 minutes; QUICK=1 for two, FULL=1: 1,000 kills); SEED=... repeats a run
	@node src/prove/kafka.ts

prove/outage: $(INSTALLED) .proto-deps ## Leave auth away for a minute while clients of the SDK go on (2 minutes; QUICK=1 for one; AWAY_SECONDS=...)
	@node src/prove/outage.ts

prove/edge: $(INSTALLED) .proto-deps ## Flood the server while somebody else calls it (12 minutes; QUICK=1 for two)
	@node src/prove/edge.ts

prove/fuzz: $(INSTALLED) .proto-deps ## Send damaged requests for a minute (FULL=1 for ten); SEED=... repeats a run
	@node src/prove/fuzz.ts

.PHONY: prove/resources
prove/resources: $(INSTALLED) .proto-deps ## Run every service with few files, little memory and one core, and ask for more (1 minute; QUICK=1)
	@node src/prove/resources.ts

.PHONY: prove/postgres
prove/postgres: $(INSTALLED) .proto-deps ## Kill PostgreSQL five times under 500 calls a second, then fill its disk, which takes root (3 minutes; QUICK=1: twice)
	@node src/prove/postgres.ts

prove/goaway: $(INSTALLED) .proto-deps ## End 10,000 connections while our client asks whether they live (FULL=1: 100,000)
	@node src/prove/goaway.ts

prove/faults: $(INSTALLED) .proto-deps $(REDIS) ## Break the ways between the client SDK and its services, 24 ways (4 minutes; QUICK=1: one)
	@CONCIERGE_TEST_REDIS=$(REDIS) node src/prove/faults.ts

prove/soak: $(INSTALLED) .proto-deps ## Good and bad requests for 15 minutes; memory and files must stay (QUICK=1 for two, FULL=1: 4 hours)
	@node src/prove/soak.ts

prove/overload: $(INSTALLED) .proto-deps ## Send twice what the server can do, three ways (5 minutes; QUICK=1 for two, FULL=1: 20)
	@node src/prove/overload.ts

prove/revocation: $(INSTALLED) .proto-deps ## Log out, and see how soon each process refuses, also when others stand still (3 minutes; QUICK=1 for two, FULL=1: 10)
	@node src/prove/revocation.ts

prove/refresh: $(INSTALLED) .proto-deps ## Race refreshes, logins and kills against each other (2 minutes; QUICK=1 for one, FULL=1: 100,000 races); SEED=... repeats a run
	@node src/prove/refresh.ts

prove/enumeration: $(INSTALLED) .proto-deps ## Time answers about accounts that exist and others (5 minutes; QUICK=1 for one); SEED=... repeats a run
	@node src/prove/enumeration.ts

.PHONY: prove/restore
prove/restore: $(INSTALLED) .proto-deps ## Lose a system's databases under load, restore them twice, and look for what was acknowledged (3 minutes; QUICK=1 for one)
	@node src/prove/restore.ts

prove/rotation: $(INSTALLED) .proto-deps ## Rotate signing keys 20 times under load (5 minutes; QUICK=1: 3 times)
	@node src/prove/rotation.ts

.PHONY: prove/rolling
prove/rolling: $(INSTALLED) .proto-deps $(HAPROXY) ## Restart, change keys and upgrade behind a proxy, at 300 questions a second (12 minutes; QUICK=1: 4); RATE=... for another rate
	@CONCIERGE_TEST_HAPROXY=$(HAPROXY) node src/prove/rolling.ts

$(HAPROXY):
	@test "$$(id -u)" = 0 || { echo "There is no $@. Install it as root: apt-get install haproxy" >&2; exit 1; }
	@echo "There is no $@. Installing Debian's package: apt-get install haproxy"
	apt-get update
	apt-get install --yes --no-install-recommends haproxy

prove/feed: $(INSTALLED) .proto-deps ## Kill a feed's processes 100 times (4 minutes; QUICK=1: 20, FULL=1: 1,000); SEED=... repeats a run
	@node src/prove/feed.ts

prove/access: $(INSTALLED) .proto-deps ## Compare 10,000 random changes of roles and members with an oracle (20 minutes; QUICK=1: 500); SEED=... repeats a run
	@node src/prove/access.ts

prove/push: $(INSTALLED) .proto-deps ## Kill senders 200 times, and count every push (10 minutes; QUICK=1: 22 kills, FULL=1: 2,000); SEED=... repeats a run
	@node src/prove/push.ts

certs: $(INSTALLED) ## Make certificates for TLS on this machine, where they are missing
	@node src/main.ts certs

clean: ## Remove the development folder: databases, keys, logs
	@test ! -d .concierge/engines || $(MAKE) --no-print-directory engines/down
	@test ! -d $(CONTAINER_SECRETS) || $(MAKE) --no-print-directory down
	rm -rf .concierge
