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
.PHONY: help setup build modules demo test test-kernels check install uninstall clean clean-cache

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (done by the others by themselves)
	@$(HARNESS)/setup test

build: ## build the two programs and the driver (KERNEL=5.10, 6.1, 6.12 or 7.2)
	@$(HARNESS)/setup build
	@$(HARNESS)/build programs
	@$(MAKE) --no-print-directory modules

modules: ## build the driver alone into build/KERNEL/
	@$(HARNESS)/build-module $(KERNEL) build/$(KERNEL) $(KFLAGS)
