"""By what rows can be sorted."""

from __future__ import annotations

from collections.abc import Mapping

from pte_trace.counted.counters import (
    AVOIDABLE,
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    WP_PROTECTED_BY,
    WRITE_FAULTS,
)

# Side by side.
_AVOIDABLE = [WP_PROTECTED_BY.at("wp_reuse", cause) for cause in AVOIDABLE]
# The numbers that are added up for it, the largest sum first.
BY_NUMBERS: Mapping[str, slice] = {
    "faults": WRITE_FAULTS.place,
    "avoidable": slice(_AVOIDABLE[0], _AVOIDABLE[-1] + 1),
    "changes": PROTECTION_CHANGES.place,
    "ptes": PTES_CHANGED.place,
    "writable": PTES_MADE_WRITABLE.place,
    "readonly": PTES_LEFT_READONLY.place,
}
# In alphabetical order, or from the least on.
BY_IDENTITY = ("pid", "comm", "name")
SORT_FIELDS = (*BY_NUMBERS, *BY_IDENTITY)
