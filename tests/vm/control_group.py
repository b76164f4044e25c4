# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A control group: its processes get as much of one thing, together, as they are told, or stand still."""

import contextlib
import pathlib
import re

ROOT = pathlib.Path("/sys/fs/cgroup")
FOLDER = ROOT / "shortage"


class ControlGroup:
    """Of one controller, such as `pids`, or of none."""

    def __init__(self, controller=None):
        self.controller = controller
        if controller:
            (ROOT / "cgroup.subtree_control").write_text(f"+{controller}")
        FOLDER.mkdir()

    def freeze(self, yes):
        (FOLDER / "cgroup.freeze").write_text(str(int(yes)))

    def limit(self, most):
        (FOLDER / f"{self.controller}.max").write_text(str(most))

    def move(self, pid):
        """A process alone, without its children."""
        (FOLDER / "cgroup.procs").write_text(str(pid))

    def used(self):
        return int((FOLDER / f"{self.controller}.current").read_text())

    def count(self, event):
        """How often that has happened, such as `max`: there was no room for one more."""
        events = (FOLDER / f"{self.controller}.events").read_text()
        return int(re.search(rf"^{event} (\d+)", events, re.MULTILINE)[1])

    def close(self):
        while pids := (FOLDER / "cgroup.procs").read_text().split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    (ROOT / "cgroup.procs").write_text(pid)
        FOLDER.rmdir()
