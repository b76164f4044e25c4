# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""By what the tests' time limits are multiplied: a kernel that watches itself is slow."""

import os

PATIENCE = int(os.environ.get("VIRTIO_LOOPBACK_PATIENCE") or 1)
