"""From columns to a snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pte_trace.counted.arrays import Numbers
from pte_trace.counted.columns import SHARED, Columns
from pte_trace.counted.mapping import Stack
from pte_trace.counted.merging import by_mapping
from pte_trace.counted.packed import VmaKey
from pte_trace.counted.rows import Rows
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot, mean_reuse_cost
from pte_trace.counted.stacks import together
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.host.plan import Attachment


def build(
    columns: Columns,
    *,
    kernel: Kernel,
    hooks: Mapping[str, Attachment],
    duration_s: float,
    health: Health,
    effort: Effort = EVERYTHING,
    calibration: ReuseCost | None = None,
    split: bool = False,
    stacks: Mapping[VmaKey, Sequence[Stack]] = MappingProxyType({}),
    needless: frozenset[str] = frozenset(),
) -> Snapshot:
    """Make a snapshot of *columns*, a row for each VMA, which it keeps with *split*.

    *calibration* stands in where no `wp_reuse` fault of *columns* was timed. *stacks* are of
    VMAs.
    """
    mappings, row_of = by_mapping(columns, split=split)
    totals = mappings.totals
    return Snapshot(
        kernel=kernel,
        hooks=hooks,
        duration_s=duration_s,
        totals=totals,
        vmas=Rows(mappings, _by_row(stacks, columns, row_of) if stacks else {}),
        health=health,
        effort=effort,
        reuse_cost=mean_reuse_cost(totals.reuse_cost, calibration),
        needless=needless,
    )


def _by_row(
    stacks: Mapping[VmaKey, Sequence[Stack]], vmas: Columns, row_of: Numbers
) -> dict[int, tuple[Stack, ...]]:
    rows = vmas.rows
    names = ("pid", "image", "start", "end", "inode", "dev")
    keys = zip(
        *(rows[name].tolist() for name in names),
        (rows["perms"] & SHARED).astype(bool).tolist(),
        strict=True,
    )
    place_of = {key: place for place, key in reversed(list(enumerate(keys)))}
    by_row: dict[int, list[Stack]] = defaultdict(list)
    for key, found in stacks.items():
        if key in place_of:
            by_row[int(row_of[place_of[key]])] += found
    return {row: together(found) for row, found in by_row.items()}
