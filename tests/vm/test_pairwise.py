# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The matrix leaves no pair of values out."""

import itertools

from test_playback import MATRIX


def test_every_pair_of_values_is_tried():
    for a, b in itertools.combinations(MATRIX[0], 2):
        tried = {(row[a], row[b]) for row in MATRIX}
        assert tried == set(itertools.product({row[a] for row in MATRIX}, {row[b] for row in MATRIX}))
