-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
alsa_monitor.enabled = false
v4l2_monitor.enabled = false
default_access.properties["enable-flatpak-portal"] = false
