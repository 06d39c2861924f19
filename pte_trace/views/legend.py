"""What each column of numbers counts, as documents say it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pte_trace.counted.counters import FAMILIES, Family


class Entry(NamedTuple):
    """A column of tables, its field in JSON, and what is counted: Markdown."""

    column: str
    field: str
    said: str


def entries() -> Iterator[Entry]:
    for family in FAMILIES:
        if family.heading:
            yield Entry(family.heading, family.name, family.meaning.format(values=_values(family)))
        for value in family.label.values if family.label else ():
            if value.heading:
                yield Entry(value.heading, value.name, value.said)
    yield Entry(
        "EFFICACY", "efficacy", "made writable of those and the avoidable faults that remained"
    )


def _values(family: Family) -> str:
    values = family.label.values if family.label else ()
    return ", ".join(f"`{value.name}` ({value.said})" for value in values)
