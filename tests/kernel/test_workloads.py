"""The zoo: each workload's figures are exact on each kernel, and other sources agree."""

from __future__ import annotations

import ctypes
import gc
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import GUEST, Run, Traced
from tests.kernel.ground import disk, full_node, setting, swap
from tests.kernel.page_tables import PageTables

TABLE = tomllib.loads((Path(__file__).parents[1] / "workloads" / "expected.toml").read_text())
COUNTED = {
    "protection_changes": "protection_changes",
    "ptes_changed": "ptes_changed",
    "ptes_inspected": "ptes_inspected",
    "ptes_made_writable": "ptes_made_writable",
    "left": "ptes_left_readonly",
    "pmds_made_writable": "pmds_made_writable",
    "huge_left": "pmds_left_readonly",
    "pmds_split": "pmds_split",
    "write_faults": "write_faults",
    "forked": "ptes_protected_by_fork",
    "huge_forked": "pmds_protected_by_fork",
}
ACCOUNT = (
    "faults",
    "reused",
    "split",
    "told",
    "numa_pte_updates",
    "numa_hint_faults",
    "numa_hint_faults_local",
    "numa_pages_migrated",
)
# What a guest has where it was asked for: see `make test-large`.
_NODES = Path("/sys/devices/system/node/online")
_GIGANTIC = Path("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages")
_BALANCING = Path("/proc/sys/kernel/numa_balancing")
HAS = {
    "numa_balancing": lambda: _BALANCING.exists(),
    "thp": lambda: Path("/sys/kernel/mm/transparent_hugepage").exists(),
    "nodes": lambda: _NODES.exists() and _NODES.read_text().strip() != "0",
    "gigantic": lambda: _GIGANTIC.exists() and int(_GIGANTIC.read_text()) > 1,
}
Figures = dict[str, Any]
# The kernel of the table that this one must count as.
KERNEL = TABLE["like"].get(GUEST, GUEST)


def flat(figures: Mapping[str, Any], prefix: str = "") -> Figures:
    """Nested figures under dotted names."""
    found: Figures = {}
    for name, figure in figures.items():
        if isinstance(figure, Mapping):
            found |= flat(figure, f"{prefix}{name}.")
        else:
            found[prefix + name] = figure
    return found


def expected_here(row: Mapping[str, Any]) -> Figures:
    found = flat(row.get("everywhere", {}))
    for group, kernels in TABLE["groups"].items():
        if KERNEL in kernels or GUEST in kernels:
            found |= flat(row.get(group, {}))
    return {name: figure for name, figure in found.items() if figure}


def counted(traced: Traced, seen: Figures) -> Figures:
    figures = {name: traced.measured[field] for name, field in COUNTED.items()}
    figures["not_inspected"] = traced.measured["ptes_not_inspected"]
    account = {name: traced.account[name] for name in ACCOUNT}
    found = flat({**figures, **seen, "account": account})
    return {name: figure for name, figure in found.items() if figure}


def give_back() -> None:
    """Return what this process has freed. Later it might split huge pages of its own by that.

    The account has those of the whole machine.
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("disk")) as place, swap():
        yield place


@pytest.fixture(scope="module")
def page_tables() -> PageTables:
    return PageTables()


def rows() -> list[Mapping[str, Any]]:
    """Those that this kernel can do."""
    return [
        row
        for row in TABLE["workload"]
        if not GUEST
        or (
            ("only" not in row or KERNEL in TABLE["groups"][row["only"]])
            and ("needs" not in row or HAS[row["needs"]]())
        )
    ]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["run"])
def test_every_figure_is_exact(
    run: Run, ground: Path, page_tables: PageTables, row: Mapping[str, Any]
) -> None:
    name, *arguments = shlex.split(row["run"])
    seen: Figures = {}

    def look(pid: int, workload: Mapping[str, Any]) -> None:
        start, pages = int(workload["start"], 16), workload["pages"]
        not_writable = pages - page_tables.writable(pid, start, pages)
        seen.update(pagemap=workload["pagemap"], not_writable=not_writable)
        give_back()

    full = full_node() if row.get("full_node") else nullcontext()
    balancing = setting("kernel.numa_balancing", int(name == "numa"))
    with full, balancing if _BALANCING.exists() else nullcontext():
        traced = run(name, *arguments, cwd=ground, look=look)
    assert traced.status == 0

    actual, expected = counted(traced, seen), expected_here(row)
    for figure, value in expected.items():
        if value in ("any", "some"):
            assert value == "any" or figure in actual, figure
            expected[figure] = actual.setdefault(figure, 0)
        elif isinstance(value, str):
            expected[figure] = traced.account[value]
            actual.setdefault(figure, 0)
    assert actual == expected
    agree(traced, seen, row)


def agree(traced: Traced, seen: Figures, row: Mapping[str, Any]) -> None:
    """What must add up whatever the figures are."""
    measured, account = traced.measured, traced.account
    touched = row.get("touched", account["pages"])
    if touched != "any":
        assert sum(measured["write_faults"].values()) == touched + account["faults"]
    for outcome, causes in measured["wp_protected_by"].items():
        cause = row.get("protected_by", {}).get(outcome)
        assert causes == {
            name: measured["write_faults"][outcome] * (name == cause) for name in causes
        }
    assert sum(measured["write_faults_origin"].values()) == sum(measured["write_faults"].values())
    left = sum(measured["ptes_left_readonly"].values())
    assert measured["ptes_made_writable"] + left == measured["ptes_inspected"]
    if seen and not row.get("changed_at_faults"):
        not_writable = seen["not_writable"]
        assert account["faults"] * row.get("pages_per_fault", 1) == not_writable
        if measured["ptes_inspected"]:
            assert left == not_writable - seen["pagemap"]["absent"]
    assert traced.lost == 0
