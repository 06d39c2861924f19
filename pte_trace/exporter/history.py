"""What was counted over the last hour, for the page: one point every five seconds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pte_trace.counted.counters import OUTCOMES, PTES_MADE_WRITABLE, WRITE_FAULTS
from pte_trace.counted.counts import Counts

HOUR_S = 3600
_STEP_S = 5
_JITTER_MS = 10
_WIDTH = 1 + len(OUTCOMES) + 2
_MOST = HOUR_S // _STEP_S + 1


class Span(NamedTuple):
    """What was counted from one point to the next, at *end_s* on the clock of the readings."""

    end_s: float
    duration_s: float
    faults: tuple[int, ...]
    made_writable: int
    avoidable: int

    @property
    def efficacy(self) -> float | None:
        """None where there was neither."""
        both = self.made_writable + self.avoidable
        return self.made_writable / both if both else None


class History:
    """Numbers in one array: it takes 60 kB, however long it goes on."""

    def __init__(self) -> None:
        self._numbers = array("q")

    def add(self, now_s: float, totals: Counts) -> None:
        """*totals* are of all since the start. What comes sooner than the next step is left out."""
        now_ms = int(now_s * 1000)
        if self._numbers and now_ms < self._numbers[-_WIDTH] + _STEP_S * 1000 - _JITTER_MS:
            return
        made = totals.sum(PTES_MADE_WRITABLE)
        self._numbers.extend((now_ms, *totals[WRITE_FAULTS], made, totals.avoidable))
        if len(self._numbers) > _MOST * _WIDTH:
            del self._numbers[:_WIDTH]

    def kept(self) -> bytes:
        """For `spans`: it does not change any more."""
        return self._numbers.tobytes()


def spans(kept: bytes) -> Iterator[Span]:
    numbers = array("q", kept)
    rows = [numbers[at : at + _WIDTH] for at in range(0, len(numbers), _WIDTH)]
    for before, after in pairwise(rows):
        began_ms, *earlier = before
        ended_ms, *later = after
        *faults, made, avoidable = (b - a for a, b in zip(earlier, later, strict=True))
        took_s = (ended_ms - began_ms) / 1000
        yield Span(ended_ms / 1000, took_s, tuple(faults), made, avoidable)
