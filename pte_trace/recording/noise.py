"""Whether two samples differ by more than chance: the Mann-Whitney U test, two-sided.

It ranks the values of both together, and asks how often the ranks of either would lie as far apart
were they dealt out at random. Nothing is assumed of how the values are distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from math import comb
from statistics import NormalDist
from typing import Any

import numpy as np

# What is more likely than this may be chance.
ALPHA = 0.01
_MOST_EXACT = 60


def can_tell(one: int, other: int) -> bool:
    """Whether samples of so many values could be farther apart than by chance."""
    return 2 / comb(one + other, one) <= ALPHA


FEWEST = next(number for number in count(1) if can_tell(number, number))


def p_value(one: Sequence[float], other: Sequence[float]) -> float:
    """How likely samples that are alike are as far apart as these, or farther.

    Exact, ties included, for _MOST_EXACT values in all; the normal distribution's of more.
    """
    fewer, more = sorted((one, other), key=len)
    ranks = _ranks([*fewer, *more])
    expected = len(fewer) * (len(ranks) + 1)
    distance = abs(int(ranks[: len(fewer)].sum()) - expected)
    if len(ranks) > _MOST_EXACT:
        variance = len(fewer) * len(more) * ranks.var(ddof=1) / len(ranks)
        return 2 * NormalDist(0, variance**0.5).cdf(-distance)
    ways = _ways(ranks, len(fewer))
    far = abs(np.arange(len(ways)) - expected) >= distance
    return float(ways[far].sum() / ways.sum())


_Numbers = np.ndarray[Any, np.dtype[np.int64]]


def _ranks(values: Sequence[float]) -> _Numbers:
    """Of each value, twice: equal ones share the ranks they take."""
    # With the index it sorts as it does on every CPU (see `pte_trace.counted.arrays`).
    _, _, which, alike = np.unique(
        np.array(values, float), return_index=True, return_inverse=True, return_counts=True
    )
    ranks: _Numbers = (2 * np.cumsum(alike) - alike + 1)[which]
    return ranks


def _ways(ranks: _Numbers, number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """In how many ways so many of *ranks* add up to 0, 1, 2…"""
    ways = np.zeros((number + 1, int(ranks.sum()) + 1))
    ways[0, 0] = 1
    for rank in ranks:
        ways[1:, rank:] += ways[:-1, :-rank]
    found: np.ndarray[Any, np.dtype[np.float64]] = ways[number]
    return found
