# What a person types. Each target makes what it needs; `make help` lists them.

SHELL := /bin/bash
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
BIN := .venv/bin
KERNELS ?= bullseye bookworm trixie sid
KERNEL ?= bookworm
# Built from one source, with and without the optimization.
PAIRS := patched unpatched patched-6.12 unpatched-6.12
MATRIX ?= $(KERNELS) $(PAIRS)
# Those whose BCC, LLVM and Python are newer than Debian 12's.
SUITES ?= trixie sid
# Where somebody begins with nothing installed.
NEWCOMERS ?= bookworm trixie sid
# Where it is installed without a network.
PACKAGED ?= bookworm trixie
# Those that lack something.
HOSTS ?= nokprobes nofentry nobtf
TIMEOUT ?= 1800
MINUTES ?= 30
PROCESSES ?= 100000

# Debian's packages: BCC and what the lab, its builds, the workloads, apt's other suites and the
# tests need. A minimal Debian has none of them.
PACKAGES := python3-bpfcc python3-venv python3-pip qemu-system-x86 kmod udev busybox-static file \
	gcc libc6-dev linux-libc-dev debian-archive-keyring \
	flex bison bc libelf-dev pahole xz-utils groff e2fsprogs mount procps util-linux btrfs-progs
# And what the tests from end to end need beside them.
E2E_PACKAGES := prometheus chromium systemd golang-go libdevel-nytprof-perl
# The Prometheus Operator's types: apart, as they bring a plugin that every pytest would load.
OPERATOR_TYPES := 'cloudcoil.models.prometheus-operator>=0.80.1'
# What attacks `serve` in `make attack`.
ATTACK_PACKAGES := nghttp2-client slowhttptest testssl.sh openssl
# What `make test-compared` compares, and with what.
RECORDED := tests/e2e/test_record.py
COMPARED ?= bullseye bookworm
# What `make demo-fleet` boots; `make demo-fleet FLEET="unpatched patched"` for the lab's own pair.
FLEET ?= bullseye bookworm

# Installs those of the packages that are missing.
define install
missing=$$(for each in $(1); do \
	dpkg-query -W -f '$${Status}' $$each 2>/dev/null | grep -q 'ok installed' || echo $$each; done); \
if [ -n "$$missing" ]; then \
	echo "Debian packages:" $$missing; \
	$(SUDO) apt-get update -q && \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive \
		apt-get install -q -y --no-install-recommends $$missing; \
fi
endef

WORKLOADS := $(patsubst tests/workloads/%.c,build/workloads/%,$(wildcard tests/workloads/*.c))

.DEFAULT_GOAL := help
.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/ready ## Install what is missing: Debian packages, then .venv

.venv/ready: pyproject.toml
	@echo "Installing what pte-trace needs (the first time takes a few minutes)"
	@$(call install,$(PACKAGES))
	/usr/bin/python3 -m venv --system-site-packages .venv
	$(BIN)/pip install --quiet --editable '.[lab,recordings,dev]'
	@touch $@

# Debian starts a Prometheus where it installs one; the tests run their own.
.venv/e2e-ready: .venv/ready
	@set -e; fresh=$$(command -v prometheus || echo fresh); \
	$(call install,$(E2E_PACKAGES)); \
	if [ "$$fresh" = fresh ]; then \
		$(SUDO) systemctl disable --now prometheus.service >/dev/null 2>&1 || true; \
	fi
	$(BIN)/pip install --quiet --editable '.[e2e]'
	$(BIN)/pip install --quiet --upgrade --target .venv/operator $(OPERATOR_TYPES)
	@touch $@

build/workloads/%: tests/workloads/%.c $(wildcard tests/workloads/*.h) | .venv/ready
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -Wno-unused-function -pthread -o $@ $<

# Without a C library of 32 bits, which few have.
build/workloads/%32: tests/workloads/%32.c | .venv/ready
	@mkdir -p $(@D)
	gcc -m32 -O2 -Wall -Wextra -fno-pie -no-pie -ffreestanding -nostdlib -static \
		-fno-omit-frame-pointer -fno-stack-protector -o $@ $<

.PHONY: workloads
workloads: .venv/ready $(WORKLOADS) ## Build the test programs
	@:

.PHONY: demo
demo: workloads ## Trace a program that toggles protection, here or in a lab guest
	@if $(SUDO) $(BIN)/pte-trace doctor >/dev/null 2>&1; then \
		$(SUDO) $(BIN)/pte-trace run -- build/workloads/demo; \
	else \
		echo "This machine's kernel cannot be traced:"; \
		$(SUDO) $(BIN)/pte-trace doctor 2>&1 >/dev/null | sed 's/^/  /'; \
		echo "so this is the kernel of Debian $(KERNEL), in a lab guest."; \
		$(BIN)/pte-trace lab run --kernel $(KERNEL) -- pte-trace run -- build/workloads/demo; \
	fi

.PHONY: demo-fleet
demo-fleet: workloads .venv/e2e-ready ## Two guests that serve, and a Prometheus that scrapes them
	@$(if $(filter $(KERNELS),$(FLEET)),$(BIN)/pte-trace lab fetch $(filter $(KERNELS),$(FLEET)))
	@$(BIN)/python -m tests.e2e.fleet $(FLEET)

# While kernels are fetched, what needs none runs. Each shows what it prints when it has ended; at
# the end is said what each took.
TOOK := build/took
.PHONY: test
test: workloads ## Style, units, subsystems, and what depends on the kernel on four: a quarter of an hour
	@rm -f $(TOOK); trap 'cat $(TOOK)' EXIT; \
	$(MAKE) --no-print-directory --output-sync=target --jobs=2 \
		$(addprefix timed-,kernels lint test-unit test-integration) && \
	$(call in-guests,$(KERNELS:%=timed-test-spread-%))

timed-%:
	@began=$$SECONDS; $(MAKE) --no-print-directory $*; status=$$?; took=$$((SECONDS - began)); \
	printf '%-24s %3d min %02d s  %s\n' $* $$((took / 60)) $$((took % 60)) \
		$$([ $$status = 0 ] && echo passed || echo FAILED) >>$(TOOK); \
	exit $$status

.PHONY: kernels
kernels: setup ## Fetch $(KERNELS), and boot the first: whether KVM is of use is tried once
	$(BIN)/pte-trace lab fetch $(KERNELS)
	@$(BIN)/pte-trace lab run --kernel $(firstword $(KERNELS)) -- true

.PHONY: test-all
test-all: lint test-unit test-integration test-kernel test-once test-e2e test-compared ## And the rest: every way to trace on each kernel, each command and example, a fleet, a browser

.PHONY: lint
lint: setup ## ruff, mypy --strict, who may import whom, and what programs write as they write it
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m dashboards --check
	$(BIN)/python -m tests.layout --check

.PHONY: test-unit
test-unit: setup ## Tests of parts: no root, no kernel, seconds
	$(BIN)/python -m pytest -n auto tests/unit

.PHONY: test-integration
test-integration: setup ## Tests of whole subsystems with real files, sockets, processes; no root, no kernel
	$(BIN)/python -m pytest -n auto tests/integration tests/attack tests/fuzz

.PHONY: attack
attack: setup ## Attacks on `serve` from loopback, by h2load, slowhttptest, testssl.sh and openssl too
	@$(call install,$(ATTACK_PACKAGES))
	$(BIN)/python -m pytest -n 2 tests/attack tests/attack/tools.py

.PHONY: fuzz
fuzz: setup ## Hostile files, names and command lines, many of each (a quarter of an hour)
	$(BIN)/python -m pytest -n auto --hypothesis-profile fuzz tests/fuzz

# Guests at a time. What each prints comes when it has ended. Under emulation an import takes
# ten times as long, so pytest has no plugin there that is not used.
AT_ONCE ?= 2
PYTEST := python -m pytest -p no:cacheprovider --disable-plugin-autoload -p pytest_timeout
in-guests = $(MAKE) --no-print-directory --keep-going --output-sync=target --jobs=$(AT_ONCE) $(1)
in-guest = @echo "== $*"; $(BIN)/pte-trace lab run --kernel $* $(CPUS) --timeout $(TIMEOUT) -- $(PYTEST)

.PHONY: test-kernel
test-kernel: workloads kernels ## Tests inside a guest of each of $(KERNELS)
	@$(call in-guests,$(KERNELS:%=test-kernel-%))

test-kernel-% test-spread-%:
	$(in-guest) $(SPREAD) -m "not once" tests/kernel

# Two guests that have a CPU each end in half of the time that they take with two each, on two CPUs.
test-spread-%: SPREAD := --spread
test-spread-%: CPUS := --cpus 1

.PHONY: test-once
test-once: workloads kernels peers ## What does not depend on the kernel, each test in a guest of one of $(KERNELS)
	@$(call in-guests,$(KERNELS:%=test-once-%))

.PHONY: peers
peers: setup # What counts on the same functions, to compare with
	@$(call install,bpftrace linux-perf)

# The README's examples alone take half an hour where two guests share two CPUs.
test-once-%: TIMEOUT = 3600
test-once-%:
	$(in-guest) -m once tests/kernel

# debootstrap has to be root, and what it makes is in root's cache.
.PHONY: test-suites
test-suites: workloads ## The tests inside guests, with BCC, LLVM and Python of $(SUITES)
	@$(call install,debootstrap)
	@$(SUDO) $(BIN)/pte-trace lab fetch $(SUITES)
	@$(call in-guests,$(SUITES:%=test-suites-%))

test-suites-%:
	@echo "== $* with its own BCC"; root=$$($(SUDO) $(BIN)/python -m tests.suites $*) && \
	$(SUDO) $(BIN)/pte-trace lab run --kernel $* --timeout $(TIMEOUT) -- \
		unshare --mount sh tests/enter.sh $$root \
		/usr/bin/$(subst python,python3,$(PYTEST)) tests/kernel

# An hour and a half for each: both commands, as root and as a user with sudo. CONTRIBUTING.md has the times.
.PHONY: test-newcomer
test-newcomer: setup ## README's two commands on bare Debian 12, 13 and unstable, as root and by sudo (hours)
	@$(call install,debootstrap git)
	@for suite in $(NEWCOMERS); do \
		$(SUDO) $(BIN)/python -m tests.newcomer $$suite || exit 1; \
	done

# Debian 12 and 13, where one has it by the package, by pipx, and as the DaemonSet's image.
.PHONY: test-package
test-package: deb workloads ## The package and pipx in minimal roots of $(PACKAGED): install, use, upgrade, remove
	@$(call install,debootstrap)
	@$(SUDO) $(BIN)/pte-trace lab fetch $(PACKAGED)
	@for suite in $(PACKAGED); do for how in deb pipx; do \
		echo "== $$how in $$suite"; \
		$(SUDO) $(BIN)/python -m tests.package $$how $$suite $$suite || exit 1; \
	done; done

.PHONY: test-image
test-image: workloads ## The DaemonSet's image, built by buildah, with a pod's rights in a guest
	@$(call install,debootstrap buildah)
	@$(SUDO) $(BIN)/pte-trace lab fetch $(KERNEL)
	@$(SUDO) $(BIN)/python -m tests.image $(KERNEL)

.PHONY: test-hosts
test-hosts: workloads ## Kernels built without kprobes, trampolines or BTF, and what comes of it
	$(BIN)/python -m tests.hosts.kernels $(HOSTS)

.PHONY: churn
churn: workloads ## Short-lived processes, PROCESSES of them (100,000), in a guest: hours where it is emulated
	@$(BIN)/pte-trace lab fetch trixie
	$(BIN)/pte-trace lab run --kernel trixie --timeout $$((7200 + 2 * $(PROCESSES))) -- \
		$(PYTEST) --churn $(PROCESSES) tests/kernel/test_churn.py

.PHONY: soak
soak: workloads peers ## `serve` and the workloads in a guest, disturbed, for MINUTES (30); counters beside bpftrace's; ATTACKED=1: by clients too
	@$(BIN)/pte-trace lab fetch $(KERNEL)
	$(BIN)/pte-trace lab run --kernel $(KERNEL) --timeout $$((($(MINUTES) + 30) * 60)) -- \
		python -m tests.soak $(MINUTES) $(if $(ATTACKED),--attacked)

.PHONY: test-matrix
test-matrix: workloads ## Each workload's figures on each of $(MATRIX)
	@$(BIN)/pte-trace lab fetch $(filter $(KERNELS),$(MATRIX))
	@$(if $(filter patched unpatched,$(MATRIX)),$(BIN)/pte-trace lab build)
	@$(if $(filter %-6.12,$(MATRIX)),$(BIN)/pte-trace lab build 6.12)
	@$(call in-guests,$(MATRIX:%=test-matrix-%))

test-matrix-%:
	$(in-guest) tests/kernel/test_workloads.py

# Two NUMA nodes, and two pages of 1 GiB set aside. Without its fast string instructions (bit 9 of
# CPUID's leaf 7) an emulated processor clears and copies such a page in a tenth of the time.
.PHONY: test-large
test-large: workloads ## The workloads that want NUMA nodes or pages of 1 GiB, in guests of $(KERNELS)
	@$(BIN)/pte-trace lab fetch $(KERNELS)
	@$(call in-guests,$(KERNELS:%=test-large-%))

test-large-%: CPUS = --cpus 2 --nodes 2 --memory 6G \
	--append hugepagesz=1G --append hugepages=2 --append clearcpuid=297
test-large-%:
	$(in-guest) -k "away or 1g" tests/kernel/test_workloads.py

.PHONY: test-e2e
test-e2e: workloads .venv/e2e-ready ## Two guests, Prometheus and a browser
	@$(BIN)/pte-trace lab fetch bullseye bookworm
	$(BIN)/python -m pytest --timeout $(TIMEOUT) --ignore $(RECORDED) tests/e2e

.PHONY: test-deploy
test-deploy: .venv/e2e-ready ## Those of them about deploy/: no guest, half a minute
	$(BIN)/python -m pytest tests/e2e/test_deploy.py tests/e2e/test_chart.py tests/e2e/test_mixin.py

.PHONY: test-compared
test-compared: workloads .venv/e2e-ready ## One program recorded on two kernels and compared; COMPARED="unpatched patched" for the lab's pair
	@$(if $(filter $(KERNELS),$(COMPARED)),$(BIN)/pte-trace lab fetch $(filter $(KERNELS),$(COMPARED)))
	COMPARED="$(COMPARED)" $(BIN)/python -m pytest --timeout 3600 $(RECORDED)

# docs/overhead.md and the manual page.
quote-figures = @$(BIN)/python docs/overhead.py && $(BIN)/python docs/manual.py

.PHONY: bench
bench: bench-overhead bench-scale bench-scale-readings bench-start ## What tracing adds, in instructions, and what a start, a reading and a scrape cost
	@$(BIN)/python -m tests.bench.reading bookworm
	@$(BIN)/python -m tests.bench.verifier $(KERNELS) patched
	@$(BIN)/python -m tests.bench.scrape bookworm
	$(quote-figures)

.PHONY: bench-scale-readings
bench-scale-readings: setup ## What 10,000 to 200,000 mappings take in serve, top, record and a report
	@$(BIN)/python -m tests.bench.readings
	$(quote-figures)

.PHONY: layout
layout: setup ## Write pte_trace/counted/layout.py anew, from bpf/records.h
	$(BIN)/python -m tests.layout

.PHONY: dashboards
dashboards: setup ## Write Grafana's dashboards anew
	$(BIN)/python -m dashboards

.PHONY: pictures
pictures: workloads .venv/e2e-ready ## Make README's pictures anew, of docs/pictures/example.parquet
	$(BIN)/python -m docs.pictures

.PHONY: manifests
manifests: .venv/e2e-ready ## Write deploy/kubernetes/daemonset.yaml anew, from the chart
	$(BIN)/python -m tests.e2e.chart

# What `make deb` builds with, and what looks at what it built.
DEB_PACKAGES := debhelper dpkg-dev fakeroot lintian
DEB := build/deb

.PHONY: deb
deb: .venv/ready ## A Debian package, for Debian 12 and newer: build/deb/pte-trace_VERSION_amd64.deb
	@$(call install,$(DEB_PACKAGES))
	rm -rf $(DEB) && mkdir -p $(DEB)/source
	git ls-files -z --cached --others --exclude-standard | tar --null -T - -c | tar -x -C $(DEB)/source
	mv $(DEB)/source/deploy/debian $(DEB)/source/debian
	printf 'pte-trace (%s) unstable; urgency=medium\n\n  * As CHANGELOG.md says.\n\n -- %s  %s\n' \
		$$($(BIN)/pte-trace --version | grep -o '[^ ]*$$') \
		"$$(sed -n 's/^Maintainer: //p' deploy/debian/control)" "$$(git log -1 --format=%aD)" \
		>$(DEB)/source/debian/changelog
	cd $(DEB)/source && dpkg-buildpackage --no-sign --build=binary
	lintian --fail-on error $(DEB)/*.changes

.PHONY: results
results: setup ## Rewrite docs/results.md: the benchmarks with and without the optimization
	$(BIN)/pte-trace lab build
	$(BIN)/python docs/results.py

# The four usual kernels, the pairs, and Debian's further ones that there are.
SURVEYED ?= bullseye bookworm bookworm+no5lvl bookworm-rt bookworm-backports patched unpatched trixie \
	trixie+no5lvl trixie+preempt=full trixie-rt trixie-backports patched-6.12 unpatched-6.12 sid \
	sid+no5lvl sid+preempt=full sid-rt experimental

.PHONY: survey
survey: workloads ## Write docs/kernels.md: the plan and the workload table on each of $(SURVEYED)
	$(BIN)/python -m tests.survey $(SURVEYED)

# Real programs, and what their jobs are made with. Debian starts the servers where it installs them.
FIELD_PACKAGES := luajit libgc-dev default-jdk-headless nodejs golang-go pypy3 php-cli sbcl ruby \
	redis-server postgresql stress-ng criu time
FIELD_SERVICES := redis-server postgresql
FIELD ?= unpatched patched unpatched-6.12 patched-6.12 unpatched-6.12+transparent_hugepage=never \
	patched-6.12+transparent_hugepage=never sid sid+transparent_hugepage=never bullseye

.PHONY: field
field: workloads peers ## Write docs/field.md: real programs under `run`, on each of $(FIELD)
	@set -e; fresh=; for service in $(FIELD_SERVICES); do \
		dpkg -s "$$service" >/dev/null 2>&1 || fresh="$$fresh $$service.service"; \
	done; \
	$(call install,$(FIELD_PACKAGES)); \
	for service in $$fresh; do \
		$(SUDO) systemctl disable --now "$$service" >/dev/null 2>&1 || true; \
	done
	@mkdir -p build/field/java
	gcc -O2 -o build/field/incremental tests/field/jobs/incremental.c -lgc
	javac -d build/field/java tests/field/jobs/Garbage.java
	go build -o build/field/garbage tests/field/jobs/garbage.go
	$(BIN)/pip install --quiet --target build/field/wasmtime --upgrade wasmtime
	$(BIN)/python -m tests.field $(FIELD)

.PHONY: manual
manual: setup ## Write the manual page, completions, the table of counters and the JSON schema anew
	$(BIN)/python docs/manual.py
	$(BIN)/python docs/counters.py
	$(BIN)/pte-trace schema >docs/schema-1.json

.PHONY: bench-overhead
bench-overhead: workloads peers ## What tracing adds to faults and changes, in instructions, beside bpftrace
	@$(BIN)/pte-trace lab fetch $(KERNELS)
	@$(BIN)/pte-trace lab build
	@for kernel in $(KERNELS) unpatched patched; do \
		$(BIN)/python -m tests.bench.overhead $$kernel || exit 1; \
	done
	$(quote-figures)

.PHONY: bench-scale
bench-scale: workloads build/bench/instructions.so ## What tracing adds to a fault with up to 100,000 mappings, and on up to 8 CPUs
	@$(BIN)/pte-trace lab build
	@$(BIN)/python -m tests.bench.scale unpatched
	$(quote-figures)

build/bench/%.so: tests/bench/%.c tests/workloads/markers.h | .venv/ready
	@mkdir -p $(@D)
	gcc -O2 -Wall -Wextra -shared -fPIC -o $@ $<

.PHONY: bench-peers
bench-peers: workloads peers ## Write docs/peers.md: what other tools count of the same faults, and what they cost
	@$(BIN)/pte-trace lab fetch trixie
	@$(BIN)/python -m tests.bench.peers

# The headers are those of the kernel that is fetched: both are the newest of Debian 12.
.PHONY: bench-start
bench-start: peers ## What it takes to begin, and what stays resident, beside a BCC tool and bpftrace
	@$(call install,linux-headers-amd64)
	@$(BIN)/pte-trace lab fetch bookworm
	@$(BIN)/python -m tests.bench.start bookworm
	$(quote-figures)

.PHONY: bench-record
bench-record: setup ## Record a simulated day of 1,000 mappings, and report it: memory, time, size
	$(BIN)/python -m tests.performance.record_day

.PHONY: format
format: setup ## Rewrite the source in the project's style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove what was built here (the lab's kernels stay in their cache)
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
