"""One reading of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pte_trace.counted.snapshot import Snapshot


@dataclass(frozen=True)
class Interval:
    """What was counted until ``time`` (UTC) in the run of that number, counted from 1."""

    time: datetime
    run: int
    snapshot: Snapshot
