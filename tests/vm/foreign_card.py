# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The virtual machine's own virtio sound card: like one of ours to ALSA, but on the PCI bus.

tests/harness/vm-tests gives the machine one. No test but those that ask for it sees it.
"""

import pathlib

from programs import wait_until

DRIVER = pathlib.Path("/sys/bus/pci/drivers/virtio-pci")
SOUND = "0x0019"  # virtio device id


class ForeignCard:
    """Found while it is there: before `put_away`."""

    address = None

    @classmethod
    def put_away(cls):
        """Takes the card, if there is one, from its drivers."""
        for device in DRIVER.glob("*:*:*.*/virtio*/device"):
            if device.read_text().strip() == SOUND:
                cls.address = device.parents[1].name
        if cls.address:
            (DRIVER / "unbind").write_text(cls.address)

    def __enter__(self):
        (DRIVER / "bind").write_text(self.address)
        wait_until(lambda: list(DRIVER.glob(f"{self.address}/virtio*/sound/card*/controlC*")), "the foreign card")
        return self

    def __exit__(self, *_):
        (DRIVER / "unbind").write_text(self.address)

    @property
    def longname(self):
        """How the name begins that ALSA gives it."""
        return f"VirtIO SoundCard at pci/{self.address}/"
