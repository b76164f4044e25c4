-- SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
-- Hides the cards of virtio-loopback, and no others, from WirePlumber.
-- For WirePlumber 0.4; copy it to /etc/wireplumber/main.lua.d/ before the first card is made.
--
-- A card that plays on PipeWire (host = "pipewire") must not be a sink of PipeWire: its sound would
-- go round in a loop. Applications use it by its ALSA name.
--
-- What tells a card of ours is where it is in sysfs. The names that ALSA shows are those of any
-- virtio card: a virtual machine's own card stays.

table.insert(alsa_monitor.rules, {
  matches = {
    {
      { "device.name", "matches", "alsa_card.*" },
      { "device.sysfs.path", "matches", "*/devices/virtual/virtio-loopback/*" },
    },
  },
  apply_properties = { ["device.disabled"] = true },
})
