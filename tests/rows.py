"""Rows of the JSON document: what is counted in them, whatever time it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pte_trace.counted.counts import NOTHING
from pte_trace.effort import EVERYTHING
from pte_trace.views.document import row

ROW = tuple(row(NOTHING, EVERYTHING))


def counted(*rows: Mapping[str, Any]) -> dict[str, int]:
    """Each number of a ROW by its name, of all *rows* together; faults timed, not their times."""
    found: Counter[str] = Counter()
    for each in rows:
        for name in ROW:
            found.update(_numbers(name, each[name]))
    return dict(found)


def _numbers(name: str, value: Any) -> dict[str, int]:
    if isinstance(value, Mapping):
        if "log2" in value:
            return {name: value["count"]}
        inner = (_numbers(f"{name}.{each}", value[each]) for each in value)
        return {name: number for each in inner for name, number in each.items()}
    return {name: value}
