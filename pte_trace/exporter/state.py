"""What the exporter shows: one immutable value for the metrics and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pte_trace.counted.counts import Counts
from pte_trace.counted.snapshot import Snapshot
from pte_trace.exporter.group import Group

if TYPE_CHECKING:
    from pte_trace.counted.columns import Columns


@dataclass(frozen=True)
class State:
    """All that was counted since the start.

    ``snapshot`` has the totals of all readings and no rows: those are in ``groups``, of which
    there are ``limit`` at most, and which add up to the totals. They have ``names``, and what was
    ``counted`` in each. ``folded`` counts
    the groups that got no series of their own. ``errors`` are readings that failed,
    ``reading_s`` is the time in seconds that all ``readings`` took. ``silent``: the hooks that the
    kernel did not run at the last reading, each with the switch that is to blame. ``history`` is
    of the last hour (see history.py).
    """

    snapshot: Snapshot
    names: tuple[Group, ...]
    counted: Columns
    limit: int
    folded: int
    readings: int
    errors: int
    reading_s: float
    silent: Mapping[str, Path] = field(default_factory=dict)
    history: bytes = b""

    @cached_property
    def groups(self) -> Mapping[Group, Counts]:
        rows = self.counted.some(range(len(self.names)))
        return {name: row.counts for name, row in zip(self.names, rows, strict=True)}
