# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Combinations of parameters in which each pair of values occurs, without trying them all."""

import itertools


def pairwise(values):
    """Rows (dictionaries) such that every two values of different parameters meet in one.

    `values` maps each parameter to its values. The same input gives the same rows.
    """
    rows = [dict(zip(values, row)) for row in itertools.product(*values.values())]
    candidates = [(frozenset(itertools.combinations(row.items(), 2)), row) for row in rows]
    unmet = set().union(*(pairs for pairs, _ in candidates))
    chosen = []
    while unmet:
        pairs, row = max(candidates, key=lambda candidate: len(candidate[0] & unmet))
        unmet -= pairs
        chosen.append(row)
    return chosen
