"""Where a process belongs: filters ask what rows say."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pte_trace.effort import Effort
from pte_trace.filters import Filters
from pte_trace.session import Session
from pte_trace.views.document import document
from tests.kernel.conftest import WORKLOADS
from tests.kernel.ground import cgroup, inside

PAGES = 23
# Where owner.c has the parent's memory, and the child's.
PARENTS, CHILDS = "0x600000000000", "0x600000057000"
ID = "0123456789abcdef" * 4
LEAST = Effort(inspect=0, costs=0)


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Path]:
    """A cgroup with those below it that a test makes, which are empty when it ends."""
    with cgroup(tmp_path) as outer:
        yield outer
        for each in sorted(outer.rglob("*"), reverse=True):
            if each.is_dir():
                each.rmdir()


def traced(filters: Filters, *commands: Sequence[object]) -> Any:
    """The document of *commands*, one after the other."""
    with Session(replace(filters, children=True), effort=LEAST) as session:
        session.start()
        with session.following():
            for command in commands:
                subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return document(session.read())


def rows_at(document: Any, start: str) -> list[dict[str, Any]]:
    return [row for row in document["vmas"] if row["start"] == start]


def faults(document: Any, start: str) -> list[int]:
    return [sum(row["write_faults"].values()) for row in rows_at(document, start)]


def test_filters_ask_for_the_owner_of_the_memory(groups: Path) -> None:
    one, other = groups / "one", groups / "other"
    for each in (one, other):
        each.mkdir()
    owner = (WORKLOADS / "owner", PAGES, one, other)
    of_one = traced(Filters(cgroup=one), owner)
    of_other = traced(Filters(cgroup=other), owner)

    assert (faults(of_one, PARENTS), faults(of_one, CHILDS)) == ([PAGES], [])
    assert (faults(of_other, PARENTS), faults(of_other, CHILDS)) == ([], [PAGES])


# What is in a cgroup of this name, or below it, maps as many pages as its place here says and 5.
NAMES = (
    "web.service",
    "web.service/below",
    "xeb.service",
    "web.servicex",
    "web.servic",
    f"docker-{ID}.scope",
    f"docker-{ID}.scope/init.scope",
    f"libpod-conmon-{ID}.scope",
    f"crio-{ID}",
    ID,
    ID[:-1],
    "x" * 255,
    "_cpu.service",
)


def test_filters_ask_what_a_cgroup_is_named_for(groups: Path) -> None:
    """With what is below it, and with nothing beside it."""
    commands = []
    for pages, name in enumerate(NAMES, 5):
        (groups / name).mkdir(parents=True, exist_ok=True)
        commands.append(inside(groups / name, WORKLOADS / "toggle", pages))
    found = {
        asked: [
            NAMES[(int(row["end"], 16) - int(row["start"], 16)) // 4096 - 5]
            for row in rows_at(traced(asked, *commands), PARENTS)
        ]
        for asked in (
            Filters(unit="web.service"),
            Filters(unit="cpu.service"),
            Filters(container=ID[:12]),
            Filters(container=ID, unit="init.scope"),
        )
    }

    assert [sorted(names) for names in found.values()] == [
        sorted(NAMES[:2]),
        ["_cpu.service"],
        sorted((*NAMES[5:7], *NAMES[8:10])),
        [f"docker-{ID}.scope/init.scope"],
    ]


# Of 255 bytes; the kernel refuses a line's end.
HOSTILE = "\x1b[2J\t" + "ü" * 125


def test_a_process_has_its_cgroup_also_when_that_is_gone(groups: Path) -> None:
    deep = groups.joinpath(*(f"{level}{'x' * 199}" for level in range(5)))
    given = [groups / "web.service", groups / HOSTILE, deep]
    commands: list[Sequence[object]] = []
    for pages, group in enumerate(given, 5):
        group.mkdir(parents=True)
        commands += [inside(group, WORKLOADS / "toggle", pages), ("rmdir", group)]
    document = traced(Filters(), *commands)

    assert not any(each.exists() for each in given)
    pids = [row["pid"] for row in sorted(rows_at(document, PARENTS), key=lambda row: row["end"])]
    found = {
        each["pid"]: (each["cgroup"], each["unit"])
        for each in document["processes"]
        if each["comm"] == "toggle"
    }
    web, hostile, cut = (found[pid] for pid in pids)
    root = "/" + groups.name
    assert web == (f"{root}/web.service", "web.service")
    assert hostile == (f"{root}/{HOSTILE}", None)
    # As much of its end as there is room for, and that it was cut.
    assert cut[0] == "…" + str(deep)[str(deep).index("/2x") :]


def test_one_program_in_two_units_is_told_apart(groups: Path) -> None:
    units = ("a.service", "b.service")
    for each in units:
        (groups / each).mkdir()
    document = traced(
        Filters(), *(inside(groups / each, WORKLOADS / "toggle", PAGES) for each in units)
    )

    found = {
        each["unit"]: each["protection_changes"]["mprotect"]
        for each in document["processes"]
        if each["comm"] == "toggle"
    }
    assert set(found) == set(units)
    assert found["a.service"] == found["b.service"] >= 2
