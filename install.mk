# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
# What `make install` puts where, and `make uninstall` takes away again.

# DESTDIR stages everything below a folder instead.
DESTDIR ?=
PREFIX ?= /usr/local
ifneq ($(words [$(DESTDIR)$(PREFIX)]),1)
$(error DESTDIR and PREFIX are to be without spaces)
endif
UDEVDIR ?= /etc/udev/rules.d
MODPROBEDIR ?= /etc/modprobe.d
UNITDIR ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
MODULESLOADDIR ?= $(PREFIX)/lib/modules-load.d
MANDIR ?= $(PREFIX)/share/man/man1
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
FISHDIR ?= $(PREFIX)/share/fish/vendor_completions.d
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
DOCDIR ?= $(PREFIX)/share/doc/virtio-loopback
DKMS_SOURCE := /usr/src/virtio-loopback-$(VERSION)
# The kernel that `make install` builds the driver for.
KVER ?= $(shell uname -r)

UDEV_RULES := $(wildcard kernel-driver/*.rules)
# systemd's name of /dev/virtio-loopback.
DEVICE_UNIT := dev-virtio\x2dloopback.device
# What wants all cards that are enabled: each boot, and each login.
TARGET_WANTS := $(UNITDIR)/multi-user.target.wants $(USERUNITDIR)/default.target.wants

.PHONY: install install-files install-driver-source install-system uninstall

install: install-files install-driver-source ## install programs, man pages, units, rules and driver (PREFIX, DESTDIR, KVER); after make build
	@test -n "$(DESTDIR)" || $(MAKE) --no-print-directory install-system

install-files:
	@for program in $(PROGRAMS); do \
		test -x $(PROGRAM_DIR)/$$program || { echo "install: $$program is not built; run: make build" >&2; exit 1; }; \
		install -Dm755 -t $(DESTDIR)$(PREFIX)/bin $(PROGRAM_DIR)/$$program || exit; \
	done
	@install -Dm644 -t $(DESTDIR)$(MANDIR) build/man/*.1
	@for program in $(PROGRAMS); do \
		install -Dm644 build/completions/$$program.bash $(DESTDIR)$(BASHDIR)/$$program && \
		install -Dm644 build/completions/$$program.fish $(DESTDIR)$(FISHDIR)/$$program.fish && \
		install -Dm644 build/completions/$$program.zsh $(DESTDIR)$(ZSHDIR)/_$$program || exit; \
	done
	@cd examples && find . -type f ! -perm /100 -exec install -Dm644 {} $(abspath $(DESTDIR)$(DOCDIR))/{} \;
	@cd examples && find . -type f -perm /100 -exec install -Dm755 {} $(abspath $(DESTDIR)$(DOCDIR))/{} \;
	@install -Dm644 -t $(DESTDIR)$(DOCDIR)/udev $(UDEV_RULES)
	@install -Dm644 kernel-driver/virtio-loopback.modprobe.conf $(DESTDIR)$(DOCDIR)/modprobe.d/virtio-loopback.conf
	@install -Dm644 -t $(DESTDIR)$(UDEVDIR) $(UDEV_RULES)
	@install -Dm644 kernel-driver/virtio-loopback.modprobe.conf $(DESTDIR)$(MODPROBEDIR)/virtio-loopback.conf
	@install -Dm644 -t $(DESTDIR)$(PREFIX)/include/linux kernel-driver/include/uapi/linux/virtio_loopback.h
	@install -Dm644 systemd/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/virtio-loopback.conf
	@install -Dm644 systemd/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/virtio-loopback.conf
	@install -Dm644 systemd/modules-load.conf $(DESTDIR)$(MODULESLOADDIR)/virtio-loopback.conf
	@install -Dm644 -t $(DESTDIR)$(UNITDIR) systemd/system/*
	@install -Dm644 -t $(DESTDIR)$(USERUNITDIR) systemd/user/*
	@sed -i 's|^ExecStart=|&$(PREFIX)/bin/|' $(foreach file,$(notdir $(wildcard systemd/system/*.service)), \
		$(DESTDIR)$(UNITDIR)/$(file) $(DESTDIR)$(USERUNITDIR)/$(file))
	@for wants in $(TARGET_WANTS); do \
		install -d $(DESTDIR)$$wants && ln -sf ../virtio-loopback.target $(DESTDIR)$$wants || exit; \
	done
	@install -Dm644 systemd/device-time-limit.conf '$(DESTDIR)$(UNITDIR)/$(DEVICE_UNIT).d/time-limit.conf'

# The driver's source, for DKMS.
install-driver-source:
	@rm -rf $(DESTDIR)$(DKMS_SOURCE)
	@cd kernel-driver && find . -type f \( -name '*.[ch]' ! -name '*.mod.c' -o -name Kbuild -o -name Makefile \) \
		-exec install -Dm644 {} $(abspath $(DESTDIR)$(DKMS_SOURCE))/{} \;
	@sed 's/@VERSION@/$(VERSION)/' kernel-driver/dkms.conf > $(DESTDIR)$(DKMS_SOURCE)/dkms.conf

# The part of an installation that changes the running system.
install-system:
	@if command -v systemd-sysusers >/dev/null; then systemd-sysusers $(SYSUSERSDIR)/virtio-loopback.conf; \
		else getent group virtio-loopback >/dev/null || groupadd --system virtio-loopback; fi
	@if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create $(TMPFILESDIR)/virtio-loopback.conf; \
		else install -d /etc/virtio-loopback; fi
	@test ! -d /run/systemd/system || systemctl daemon-reload
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
	@echo "installed; now: modprobe -a virtio_loopback virtio_snd, or reboot"

uninstall: ## remove what make install put there; cards in /etc/virtio-loopback stay
	@if [[ -z "$(DESTDIR)" ]] && command -v dkms >/dev/null; then dkms remove virtio-loopback/$(VERSION) --all || true; fi
	@rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS)) $(addprefix $(DESTDIR)$(UDEVDIR)/,$(notdir $(UDEV_RULES)))
	@rm -f $(foreach program,$(PROGRAMS),$(DESTDIR)$(MANDIR)/$(program).1 $(DESTDIR)$(MANDIR)/$(program)-*.1)
	@rm -f $(foreach program,$(PROGRAMS),$(addprefix $(DESTDIR),$(BASHDIR)/$(program) $(FISHDIR)/$(program).fish $(ZSHDIR)/_$(program)))
	@rm -f $(DESTDIR)$(PREFIX)/include/linux/virtio_loopback.h $(DESTDIR)$(MODPROBEDIR)/virtio-loopback.conf
	@rm -f $(foreach folder,$(SYSUSERSDIR) $(TMPFILESDIR) $(MODULESLOADDIR),$(DESTDIR)$(folder)/virtio-loopback.conf)
	@rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(notdir $(wildcard systemd/system/*)))
	@rm -f $(addprefix $(DESTDIR)$(USERUNITDIR)/,$(notdir $(wildcard systemd/user/*)))
	@rm -f $(foreach wants,$(TARGET_WANTS),$(DESTDIR)$(wants)/virtio-loopback.target)
	@rm -rf '$(DESTDIR)$(UNITDIR)/$(DEVICE_UNIT).d' $(DESTDIR)$(DKMS_SOURCE) $(DESTDIR)$(DOCDIR)
	@test -n "$(DESTDIR)" || { rm -f /lib/modules/$(KVER)/updates/virtio_loopback.ko; depmod $(KVER); }
	@test -n "$(DESTDIR)" -o ! -d /run/systemd/system || systemctl daemon-reload
