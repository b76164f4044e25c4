# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Which Linux the guest runs."""

import platform
import re

VERSION = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))  # (6, 12)
