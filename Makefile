# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# virtio-loopback: everything a person or a machine asks for. `make help` lists it.

SHELL := /bin/bash
HARNESS := tests/harness
KERNELS := 5.10 6.1 6.12 7.2
# The kernel to build the driver for: a label from KERNELS.
KERNEL ?= 6.12
# Where `make install` puts things; DESTDIR stages them below a folder instead.
PREFIX ?= /usr/local
UDEVDIR ?= /etc/udev/rules.d
MODPROBEDIR ?= /etc/modprobe.d
UDEV_RULES := kernel-driver/60-virtio-loopback.rules kernel-driver/91-virtio-loopback.rules
DESTDIR ?=
# The kernel that `make install` builds the driver for.
KVER ?= $(shell uname -r)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
PROGRAMS := virtio-loopback vhost-user-sound
PROGRAM_DIR := $(or $(CARGO_TARGET_DIR),target)/release
DKMS_SOURCE := /usr/src/virtio-loopback-$(VERSION)
# Further arguments for the kernel's make, for example KFLAGS="W=1 C=2".
KFLAGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build programs man modules demo bench test test-kernels check install install-driver uninstall clean clean-cache

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (done by the others by themselves)
	@$(HARNESS)/setup test

build: ## build the two programs, their man pages, and the driver for KERNEL (5.10, 6.1, 6.12 or 7.2)
	@$(HARNESS)/setup build
	@$(MAKE) --no-print-directory programs man modules

programs: ## build the two programs alone
	@$(HARNESS)/cargo build --release --locked --workspace

man: ## write the man pages of the programs, into build/man/
	@$(HARNESS)/cargo run --quiet --locked --example vhost-user-sound-man -- build/man
	@$(HARNESS)/cargo run --quiet --locked --package virtio-loopback --example man -- build/man

modules: ## build the driver alone, into build/KERNEL/
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

test: ## everything: linters, unit tests, the driver on four kernels, tests in a virtual machine
	@$(HARNESS)/setup test
	@$(HARNESS)/checks all $(if $(ONLY),--only "$(ONLY)")

test-kernels: ## the core tests in virtual machines with kernels 6.1 and 7.2
	@$(HARNESS)/setup test
	@$(HARNESS)/checks kernels $(if $(ONLY),--only "$(ONLY)")

check: ## the linters alone (ONLY="clippy" picks some, for test as well)
	@$(HARNESS)/setup test
	@$(HARNESS)/checks lint $(if $(ONLY),--only "$(ONLY)")

install: ## install programs, man pages, udev rules and driver (PREFIX, DESTDIR, KVER); after make build
	@for program in $(PROGRAMS); do \
		test -x $(PROGRAM_DIR)/$$program || { echo "install: $$program is not built; run: make build" >&2; exit 1; }; \
		install -Dm755 $(PROGRAM_DIR)/$$program $(DESTDIR)$(PREFIX)/bin/$$program || exit; \
	done
	@install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man1 build/man/*.1
	@cd examples && find . -type f | while read -r file; do \
		install -D -m "$$(test -x "$$file" && echo 755 || echo 644)" "$$file" "$(abspath $(DESTDIR)$(PREFIX))/share/doc/virtio-loopback/$$file" || exit; \
	done
	@install -Dm644 -t $(DESTDIR)$(UDEVDIR) $(UDEV_RULES)
	@install -Dm644 kernel-driver/virtio-loopback.modprobe.conf $(DESTDIR)$(MODPROBEDIR)/virtio-loopback.conf
	@install -Dm644 -t $(DESTDIR)$(PREFIX)/include/linux kernel-driver/include/uapi/linux/virtio_loopback.h
	@rm -rf $(DESTDIR)$(DKMS_SOURCE)
	@cd kernel-driver && find . -type f \( -name '*.[ch]' ! -name '*.mod.c' -o -name Kbuild -o -name Makefile \) \
		-exec install -Dm644 {} $(DESTDIR)$(DKMS_SOURCE)/{} \;
	@sed 's/@VERSION@/$(VERSION)/' kernel-driver/dkms.conf > $(DESTDIR)$(DKMS_SOURCE)/dkms.conf
	@test -n "$(DESTDIR)" || $(MAKE) --no-print-directory install-driver

# The part of an installation that changes the running system.
install-driver:
	@getent group virtio-loopback >/dev/null || groupadd --system virtio-loopback
	@udevadm control --reload 2>/dev/null || true
	@test -d /lib/modules/$(KVER)/build || { echo "install: no headers for kernel $(KVER): the driver was not built;" \
		"install linux-headers-$(KVER) and run this again" >&2; exit 1; }
	@if command -v dkms >/dev/null; then \
		dkms remove virtio-loopback/$(VERSION) --all >/dev/null 2>&1; \
		dkms install virtio-loopback/$(VERSION) -k $(KVER); \
	else \
		echo "install: no dkms here: building for kernel $(KVER) alone"; \
		$(MAKE) -C $(DKMS_SOURCE) KDIR=/lib/modules/$(KVER)/build CONFIG_DEBUG_INFO_BTF_MODULES= modules && \
		install -Dm644 $(DKMS_SOURCE)/virtio_loopback.ko /lib/modules/$(KVER)/updates/virtio_loopback.ko && \
		depmod $(KVER); \
	fi
	@echo "installed; now: modprobe virtio_loopback"

uninstall: ## remove what make install put there
	@if [[ -z "$(DESTDIR)" ]] && command -v dkms >/dev/null; then dkms remove virtio-loopback/$(VERSION) --all || true; fi
	@rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(addsuffix *.1,$(PROGRAMS)))
	@rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(UDEVDIR)/,$(notdir $(UDEV_RULES)))
	@rm -f $(DESTDIR)$(PREFIX)/include/linux/virtio_loopback.h $(DESTDIR)$(MODPROBEDIR)/virtio-loopback.conf
	@rm -rf $(DESTDIR)$(DKMS_SOURCE) $(DESTDIR)$(PREFIX)/share/doc/virtio-loopback
	@test -n "$(DESTDIR)" || { rm -f /lib/modules/$(KVER)/updates/virtio_loopback.ko; depmod $(KVER); }

clean: ## remove what was built here
	rm -rf build target

clean-cache: ## remove the downloaded kernels and tools (~/.cache/virtio-loopback)
	@$(HARNESS)/remove-cache
