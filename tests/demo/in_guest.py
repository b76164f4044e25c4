# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The part of the demo that runs inside the virtual machine; tests/demo/run starts it there."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "vm"))

import exact_in_guest  # noqa: E402
import machine  # noqa: E402
import scene_in_guest  # noqa: E402


def main(folder, version):
    print("   loading virtio_loopback.ko, snd-aloop for the real cards, udev with our rules", flush=True)
    machine.prepare()
    print("== two cards play at the same time, each on its own real card", flush=True)
    exact_in_guest.play(folder / "exact")
    print("== three cards play on one real card, by their roles", flush=True)
    scene_in_guest.play(folder / "scene", version)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
