"""Intervals as Arrow record batches: a row for each interval, its mappings a list in it.

The fields are those of JSON's schema 1, with the cause where JSON has the sum over causes. Null
is what was not looked at.
"""

from __future__ import annotations

import pyarrow as pa

from pte_trace.counted.counters import FAMILIES, OUTCOMES
from pte_trace.effort import Effort

RECORDED = tuple(family for family in FAMILIES if family.recorded)
GROUPS = {family.name: family.parts for family in RECORDED}
INSPECTED = tuple(family.name for family in RECORDED if family.inspected)

# ``log2[n]`` counts the faults that took 2^(first+n) ns up to twice that, from the first to the
# last that is not 0.
COST = pa.struct(
    [
        ("count", pa.int64()),
        ("sum", pa.int64()),
        ("first", pa.int8()),
        ("log2", pa.list_(pa.field("element", pa.int64(), nullable=False))),
    ]
)
_COUNTS = [
    *(
        (group, pa.struct([(name, pa.int64()) for name in names]))
        for group, names in GROUPS.items()
    ),
    ("fault_ns", pa.struct([(outcome, COST) for outcome in OUTCOMES])),
]
_IDENTITY = [
    ("pid", pa.int32()),
    ("comm", pa.string()),
    ("ppid", pa.int32()),
    ("image", pa.uint64()),
    ("start", pa.uint64()),
    ("end", pa.uint64()),
    ("perms", pa.string()),
    ("kind", pa.string()),
    ("name", pa.string()),
    ("inode", pa.uint64()),
    ("dev", pa.uint32()),
    ("cgroup", pa.string()),
]
# On the monotonic clock, as in VmaRow: they tell in which order mappings were there.
_ORDER = [("seen_ns", pa.int64()), ("born_ns", pa.int64())]
# What recordings lack that were made before there was such a thing.
ADDED = frozenset({"cgroup"})
IDENTITY = tuple(name for name, _ in _IDENTITY)
ORDER = tuple(name for name, _ in _ORDER)
VMA = pa.struct([*_IDENTITY, *_ORDER, *_COUNTS])
TOTALS = pa.struct(_COUNTS)
HEALTH = pa.struct(
    [
        ("map_full", pa.int64()),
        ("missed_runs", pa.int64()),
        ("probe_seconds", pa.float64()),
        ("entries", pa.int64()),
        ("capacity", pa.int64()),
    ]
)
# Of `--stacks`: each place of an interval once, and stacks that tell which they lead through, by
# where those are in the list, innermost first. ``vma``: which of the interval's mappings. Empty is
# what is not known, or is not so.
FRAMES, STACKS = "frames", "stacks"
FRAME = pa.struct(
    [
        ("address", pa.uint64()),
        ("file", pa.string()),
        ("offset", pa.uint64()),
        ("function", pa.string()),
        ("unnamed", pa.string()),
    ]
)
STACK = pa.struct(
    [
        ("vma", pa.int32()),
        ("counted", pa.string()),
        ("value", pa.string()),
        ("origin", pa.string()),
        ("count", pa.int64()),
        ("frames", pa.list_(pa.field("element", pa.int32(), nullable=False))),
    ]
)
REUSE_COST = pa.struct([("nanoseconds", pa.float64()), ("source", pa.string())])
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        ("run", pa.int32()),
        ("duration_s", pa.float64()),
        ("health", HEALTH),
        ("reuse_cost", REUSE_COST),
        ("totals", TOTALS),
        ("vmas", pa.list_(VMA)),
    ]
)
WITH_STACKS = SCHEMA.append(pa.field(FRAMES, pa.list_(FRAME))).append(
    pa.field(STACKS, pa.list_(STACK))
)


def schema(effort: Effort) -> pa.Schema:
    """Of a recording in which so much was looked at."""
    return WITH_STACKS if effort.stacks else SCHEMA
