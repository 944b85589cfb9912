# Everything one does with this project, each target with all its own set-up. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# What was compiled is kept, whatever the environment says: tests start the programs a thousand times, each of which would
# compile all its modules again.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

VENV := .venv/.complete
SITE_VENV := .venv-site/.complete
PYTEST := .venv/bin/pytest
export PATH := $(PATH):/usr/sbin:/sbin

# Where the demo leaves its picture: make demo PLOT=docs/images/demo.svg
PLOT ?= build/demo.svg
# Debian kernels that test-kernels boots, the script that boots one, and the tests that matter there: a machine in
# software is slow, and what differs is which qdiscs and filters there are.
KERNELS ?= 6.1 6.12
VM ?= ../shared/testbed/vm
KERNEL_TESTS ?= tests/kernels tests/kernel/tc/test_contract.py tests/kernel/bpf/test_capabilities.py tests/kernel/bpf/test_strangers.py
# How many tests run at a time: on two cores four, because most of them wait for something most of their time. Those
# that measure rates or times run behind all others, by two or one.
WORKERS ?= 4
# Each of these has an API server of its own beside it, which takes its part of the cores.
CLUSTER_WORKERS ?= 3
PYTEST_MANY = $(PYTEST) -n $(WORKERS) --maxschedchunk 4
# Unit tests wait for nothing: one on each core is the fastest.
UNIT_WORKERS ?= $(shell nproc)
# Further words for pytest: make test-kernel ARGS='-k ports -x'
ARGS ?=

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(VENV) ## virtual environment with locked dependencies, and the system packages that are missing
	@tools/system-packages

$(VENV): requirements/dev.txt pyproject.toml tools/setup-venv
	@tools/setup-venv

.PHONY: demo
demo: setup ## see it work: find the greedy one of 134 clients, slow it, let it go; real traffic, under a minute (root); POLICY=1: nobody does it
	@tools/preflight demo
	@PYTHONPATH=tests/lab:demo .venv/bin/python -m bandwidth_demo --plot '$(PLOT)' $(if $(POLICY),--policy)

.PHONY: pictures
pictures: setup ## the pictures of the README, from runs of the demonstration: docs/images/demo.svg, top.svg, policy.svg (root)
	@tools/preflight demo
	@PYTHONPATH=tests/lab:demo .venv/bin/python -m bandwidth_demo --plot docs/images/demo.svg --screens docs/images
	@PYTHONPATH=tests/lab:demo .venv/bin/python -m bandwidth_demo --policy --plot docs/images/policy.svg

.PHONY: test
test: setup ## all tests of the agent and of everything pure (root)
	-@tools/system-packages compiler
	@tools/preflight test
	$(PYTEST_MANY) tests/unit tests/machine tests/contract tests/kernel tests/kernels $(ARGS)

.PHONY: test-unit
test-unit: $(VENV) ## the fast tests; no root, no network, no kernel
	$(PYTEST) -n $(UNIT_WORKERS) tests/unit $(ARGS)

.PHONY: test-search
test-search: export HYPOTHESIS_PROFILE := search
test-search: $(VENV) ## the unit tests with new random cases, two thousand of each property: some minutes
	$(PYTEST) -n $(UNIT_WORKERS) tests/unit $(ARGS)

.PHONY: test-machine
test-machine: $(VENV) ## the tests that need sockets, other programs or real time, and no root
	-@tools/system-packages compiler
	$(PYTEST_MANY) tests/machine $(ARGS)

.PHONY: test-kernel
test-kernel: setup ## the tests against this machine's kernel, in namespaces of their own (root)
	@tools/preflight test-kernel
	$(PYTEST_MANY) tests/contract tests/kernel tests/kernels $(ARGS)

.PHONY: test-cluster
test-cluster: setup ## operator and agents against real API servers; KUBE_BINARIES: a folder with etcd, kube-apiserver, kubectl (root)
	@tools/preflight test-cluster
	$(PYTEST) -n $(CLUSTER_WORKERS) --dist loadgroup --no-loadscope-reorder tests/cluster $(ARGS)

# What another version of the API server might take another way: schemas, CEL, admission policies, apply.
API_SERVERS ?= 1.31.14
API_SERVER_TESTS ?= $(patsubst %,tests/cluster/test_%.py,admission policies made_limits)

.PHONY: test-api-servers
test-api-servers: setup ## the tests that matter on the oldest API server that the chart takes, or API_SERVERS='1.37.2 …' (root; Go)
	@tools/preflight test-cluster
	set -e; for version in $(API_SERVERS); do folder=$$(tools/kube-apiserver $$version); \
	  KUBE_BINARIES=$$folder $(PYTEST) -n $(CLUSTER_WORKERS) --dist loadgroup --no-loadscope-reorder $(API_SERVER_TESTS) $(ARGS); done

.PHONY: plugin
plugin: ## dist/kubectl-cbl: the kubectl plugin as one file, which needs Python 3.11 and nothing else
	@tools/plugin

.PHONY: deb
deb: $(VENV) ## dist/client-bandwidth-agent_*.deb: the agent for one host, with its libraries; ARCHITECTURE=arm64 for another
	@tools/system-packages deb
	@tools/deb
	@lintian --allow-root --fail-on warning dist/client-bandwidth-agent_*.deb

.PHONY: test-deb
test-deb: deb ## the package, and what pip installs, on clean Debian hosts in containers (root; Docker)
	$(PYTEST) -n 3 tests/packages $(ARGS)

.PHONY: images
images: $(VENV) ## client-bandwidth-operator:dev and client-bandwidth-agent:dev; IMAGE_BASE names another base
	@deploy/images/build

.PHONY: release
release: $(VENV) ## a release, in dist/ and in a registry: make release REGISTRY=localhost:5000 VERSION=1.2.3; alone: its help
	@$(if $(REGISTRY),tools/system-packages release)
	@tools/release $(if $(REGISTRY),--registry '$(REGISTRY)') $(if $(VERSION),--version '$(VERSION)') \
	  $(if $(ARCHITECTURES),--architectures '$(ARCHITECTURES)') $(if $(KEY),--key '$(KEY)') \
	  $(if $(DOWNLOADS),--downloads '$(DOWNLOADS)') $(if $(DIST),--dist '$(DIST)') $(if $(filter 0,$(DEB)),--no-deb)

.PHONY: check-workflows
check-workflows: $(VENV) ## .github/workflows by actionlint and zizmor, without asking anything outside (needs Go)
	@tools/check-workflows

.PHONY: e2e
e2e: $(VENV) ## the chart in a kind cluster, clients outside of it, real faults; E2E_KEEP=1 keeps the cluster, E2E_CLUSTER uses it
	@PYTHONPATH=tests/lab .venv/bin/python -m bandwidth_lab.kind
	@tools/system-packages release
	@tools/debian-program docker-registry >/dev/null
	@$(MAKE) images
	$(PYTEST) tests/e2e $(ARGS)

.PHONY: e2e-gitops
e2e-gitops: $(VENV) ## a kind cluster that Flux fills from a Git repository (source-controller, kustomize-controller in PATH)
	@PYTHONPATH=tests/lab .venv/bin/python -m bandwidth_lab.kind
	@$(MAKE) images
	$(PYTEST) tests/flux $(ARGS)

.PHONY: story
story: images ## a real mail server in a kind cluster, a client that loops over its mailbox, and what a limit does (10 minutes); POLICY=1: nobody makes it
	@PYTHONPATH=tests/lab:demo .venv/bin/python -m bandwidth_demo.mail_story $(if $(POLICY),--policy) $(ARGS)

.PHONY: test-kernels
test-kernels: setup ## the tests that matter on other kernels, on Debian's 6.1 and 6.12 in a virtual machine (root)
	set -e; for kernel in $(KERNELS); do tests/kernels/run '$(VM)' $$kernel $(KERNEL_TESTS) $(ARGS); done

.PHONY: check style types layers
check: style types layers ## style, types and layers; each by its name too, and side by side with -j
style: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
types: $(VENV)
	.venv/bin/mypy
layers: $(VENV)
	.venv/bin/lint-imports

.PHONY: programs
programs: ## the eBPF programs as code, which is committed, from their source (needs clang-14 and libbpf-dev)
	@tools/system-packages compiler
	@tools/bpf

.PHONY: chart
chart: $(VENV) ## what is made from the chart and deploy/crds: copies, tables, install.yaml, the tests' renders (needs helm)
	@tools/chart

.PHONY: site
site: $(SITE_VENV) ## the documentation as a site in build/site, every link checked; VERSION=1.2: in a folder, beside others
	@PYTHONPATH=pages .venv-site/bin/python -m bandwidth_pages $(if $(VERSION),--version '$(VERSION)') $(if $(SITE_URL),--url '$(SITE_URL)')

.PHONY: site-test
site-test: site ## the site in a browser: errors, other hosts, accessibility, search; pictures in build/site-screens
	@tools/system-packages browser
	@PYTHONPATH=pages .venv-site/bin/python -m bandwidth_pages.browser build/site$(if $(VERSION),/$(VERSION))

$(SITE_VENV): requirements/site.txt tools/setup-venv
	@tools/setup-venv site

.PHONY: bench
bench: setup ## the benchmarks, each a ratio in one run (root, long)
	@tools/system-packages bench
	@tools/preflight bench
	PYTHONPATH=tests/lab:bench .venv/bin/python -m run $(ARGS)

.PHONY: bench-cluster
bench-cluster: setup ## the benchmarks of the cluster; KUBE_BINARIES names a folder with etcd, kube-apiserver, kubectl (root, long)
	@tools/system-packages bench
	PYTHONPATH=tests/lab:bench .venv/bin/python -m run cluster-operator cluster-agents cluster-fleet cluster-idle cluster-questions $(ARGS)

.PHONY: lock
lock: ## resolve requirements/*.txt anew from pyproject.toml
	@tools/lock

.PHONY: clean
clean: ## remove what the other targets made here
	rm -rf .venv .venv-site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
