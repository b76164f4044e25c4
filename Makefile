# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# virtio-loopback: everything a person or a machine asks for. `make help` lists it.

SHELL := /bin/bash
HARNESS := tests/harness
KERNELS := 5.10 6.1 6.12 7.2
# The kernel to build the driver for: a label from KERNELS.
KERNEL ?= 6.12
PREFIX ?= /usr/local
# Further arguments for the kernel's make, for example KFLAGS="W=1 C=2".
KFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build programs modules demo test test-kernels check install uninstall clean clean-cache

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (done by the others by themselves)
	@$(HARNESS)/setup test

build: ## build the two programs, and the driver for KERNEL (5.10, 6.1, 6.12 or 7.2)
	@$(HARNESS)/setup build
	@$(MAKE) --no-print-directory programs modules

programs: ## build the two programs alone
	@$(HARNESS)/cargo build --release --locked --workspace

modules: ## build the driver alone, into build/KERNEL/
	@$(HARNESS)/build-module $(KERNEL) build/$(KERNEL) $(KFLAGS)

demo: ## boot a virtual machine, play two recordings on two cards, show what arrived
	@$(HARNESS)/setup demo
	@$(MAKE) --no-print-directory programs modules KERNEL=6.12
	@tests/demo/run

test: ## everything: linters, unit tests, the driver on four kernels, tests in a virtual machine
	@$(HARNESS)/setup test
	@$(HARNESS)/checks all $(if $(ONLY),--only "$(ONLY)")

test-kernels: ## the core tests in virtual machines with kernels 6.1 and 7.2
	@$(HARNESS)/setup test
	@$(HARNESS)/checks kernels $(if $(ONLY),--only "$(ONLY)")

check: ## the linters alone (ONLY="clippy" picks some, for test as well)
	@$(HARNESS)/setup test
	@$(HARNESS)/checks lint $(if $(ONLY),--only "$(ONLY)")

clean: ## remove what was built here
	rm -rf build target

clean-cache: ## remove the downloaded kernels and tools, and the links to them
	@$(HARNESS)/kernels clean
