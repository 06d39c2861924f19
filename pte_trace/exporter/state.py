"""What the exporter shows: one immutable value for the metrics and the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pte_trace.exporter.groups import Group
from pte_trace.records import Counts
from pte_trace.snapshot import Snapshot


@dataclass(frozen=True)
class State:
    """All that was counted since the start.

    ``snapshot`` has the totals of all readings and no rows: those are in ``groups``, of which
    there are ``limit`` at most, and which add up to the totals. ``folded`` counts
    the groups that got no series of their own. ``errors`` are readings that failed,
    ``reading_s`` is the time in seconds that all ``readings`` took. ``silent``: the hooks that the
    kernel did not run at the last reading, each with the switch that is to blame.
    """

    snapshot: Snapshot
    groups: Mapping[Group, Counts]
    limit: int
    folded: int
    readings: int
    errors: int
    reading_s: float
    silent: Mapping[str, Path] = field(default_factory=dict)
