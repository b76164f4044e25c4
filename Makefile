# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# virtio-loopback: everything a person or a machine asks for. `make help` lists it.

SHELL := /bin/bash
HARNESS := tests/harness
KERNELS := 5.10 6.1 6.12 6.12-rt 7.2
# The kernel to build the driver for: a label from KERNELS.
KERNEL ?= 6.12
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
PROGRAMS := virtio-loopback vhost-user-sound
PROGRAM_DIR := $(or $(CARGO_TARGET_DIR),target)/release
# Further arguments for the kernel's make, for example KFLAGS="W=1 C=2".
KFLAGS ?=

.DEFAULT_GOAL := help
include install.mk
.PHONY: help setup build programs man completions deb modules demo bench soak test test-kernels test-debug-kernels check clean clean-cache

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (done by the others by themselves)
	@$(HARNESS)/setup test

build: ## build the two programs, their man pages and completions; make install builds the driver for the kernel that runs
	@$(HARNESS)/setup build
	@$(MAKE) --no-print-directory programs man completions

programs: ## build the two programs alone
	@$(HARNESS)/cargo build --release --locked --workspace

man: ## write the man pages of the programs, into build/man/
	@$(HARNESS)/cargo run --quiet --locked --example vhost-user-sound-man -- build/man
	@$(HARNESS)/cargo run --quiet --locked --package virtio-loopback --example man -- build/man

completions: programs ## write what shells complete, into build/completions/
	@mkdir -p build/completions
	@for program in $(PROGRAMS); do for shell in bash fish zsh; do \
		$(PROGRAM_DIR)/$$program completions $$shell >build/completions/$$program.$$shell || exit; done; done

deb: ## build Debian packages of the programs and of the driver, into build/deb/
	@$(HARNESS)/setup deb
	@$(MAKE) --no-print-directory programs man completions
	@$(HARNESS)/build-deb $(abspath $(PROGRAM_DIR))

modules: ## build the driver alone, for a KERNEL of Debian (5.10, 6.1, 6.12, 6.12-rt or 7.2), into build/KERNEL/
	@$(HARNESS)/build-module $(KERNEL) build/$(KERNEL) $(KFLAGS)

demo: ## boot a virtual machine: two cards play bit for bit, then music, navigation and phone by their roles
	@$(HARNESS)/setup demo
	@$(HARNESS)/sound-servers 0.5
	@$(MAKE) --no-print-directory programs modules KERNEL=6.12
	@tests/demo/run

bench: ## boot a virtual machine, measure latency, CPU and memory against an application straight on a card
	@$(HARNESS)/setup demo
	@$(MAKE) --no-print-directory programs modules KERNEL=6.12
	@$(HARNESS)/cargo build --release --locked --package virtio-loopback --example vhost-user-rng
	@tests/bench/run

soak: ## four cards play and record while KILLS (1000) processes of theirs are killed, which ones by SEED (1)
	@$(HARNESS)/setup test
	@$(MAKE) --no-print-directory programs modules KERNEL=6.12
	@VIRTIO_LOOPBACK_KILLS=$(or $(KILLS),1000) VIRTIO_LOOPBACK_SEED=$(or $(SEED),1) $(HARNESS)/vm-tests \
		--module build/6.12/virtio_loopback.ko --binaries $(PROGRAM_DIR) --report build/soak --time-limit 86400 \
		-- -s tests/vm/test_soak.py

test: ## everything: linters, unit tests, the driver on five kernels, tests in a virtual machine
	@$(HARNESS)/setup test
	@$(HARNESS)/checks all $(if $(ONLY),--only "$(ONLY)")

test-debug-kernels: ## the VM tests in kernels built to watch themselves, and the fuzzer for FUZZ_SECONDS (3600) in each
	@$(HARNESS)/setup test
	@$(HARNESS)/checks debug $(if $(ONLY),--only "$(ONLY)")

test-kernels: ## the core tests in virtual machines with kernels 6.1 and 7.2, and all of them on 6.12 with PREEMPT_RT
	@$(HARNESS)/setup test
	@$(HARNESS)/checks kernels $(if $(ONLY),--only "$(ONLY)")

check: ## the linters alone (ONLY="clippy" picks some, for test as well)
	@$(HARNESS)/setup test
	@$(HARNESS)/checks lint $(if $(ONLY),--only "$(ONLY)")

clean: ## remove what was built here
	rm -rf build target

clean-cache: ## remove the downloaded kernels and tools (~/.cache/virtio-loopback)
	@$(HARNESS)/remove-cache
