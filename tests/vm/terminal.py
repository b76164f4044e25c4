# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A program on a terminal of its own: what it shows, and keys for it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios

import programs
from programs import wait_until

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"  # the alternate screen
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"  # the cursor


class Terminal:
    def __init__(self, *command, columns=120, rows=30, **environment):
        self._ours, theirs = pty.openpty()
        self._file = theirs  # kept open: its modes are looked at when the program has ended
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(theirs)
        self.text = ""
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env=os.environ | {"TERM": "xterm-256color"} | environment, **programs.place(str(command[0])),
        )

    def resize(self, columns, rows):
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize_and_tell(self, columns, rows):
        self.resize(columns, rows)
        self._process.send_signal(signal.SIGWINCH)

    def read(self):
        """All that it has shown until now."""
        while select.select([self._ours], [], [], 0)[0]:
            self.text += os.read(self._ours, 1 << 16).decode(errors="replace")
        return self.text

    def forget(self):
        self.read()
        self.text = ""

    def wait_for(self, condition, what):
        wait_until(lambda: condition(self.read()), f"{what}\n{self.text[-2000:]!r}")

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def send(self, number):
        self._process.send_signal(number)

    def wait(self):
        """Its exit status."""
        status = self._process.wait(10)
        self.read()
        return status

    def is_as_before(self):
        """Whether the terminal does what it did before the program came."""
        return termios.tcgetattr(self._file) == self.modes

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
        os.close(self._file)
