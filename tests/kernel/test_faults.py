"""Rows of mappings add up to processes, those to the totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.kernel.conftest import Run

PAGES = 23


def figures(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int]]:
    """The figures of a ROW that are not 0, under dotted names; a histogram's one by one."""
    for name, figure in row.items():
        if isinstance(figure, Mapping):
            yield from figures(figure, f"{prefix}{name}.")
        elif isinstance(figure, list):
            yield from figures({f"{name}.{n}": each for n, each in enumerate(figure)}, prefix)
        elif figure and not isinstance(figure, str) and name not in ("pid", "ppid"):
            yield prefix + name, figure


def added_up(rows: list[dict[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for name, figure in figures(row):
            found[name] = found.get(name, 0) + figure
    return found


@pytest.mark.parametrize("workload", ["toggle", "fork_child", "uffd_wp"])
def test_rows_add_up(run: Run, workload: str) -> None:
    document = run(workload, PAGES).document

    totals = dict(figures(document["totals"]))
    assert totals["write_faults.other"] >= PAGES
    assert added_up(document["processes"]) == totals
    for process in document["processes"]:
        rows = [row for row in document["vmas"] if row["pid"] == process["pid"]]
        assert added_up(rows) == dict(figures(process))
