"""The questions that pte-trace answers, put to what else counts write faults.

    make bench-peers

In a guest that counts instructions build/workloads/costs takes ROUNDS times PAGES write faults of
pages that a fork write-protected and that nobody shares any more. Each tool counts them by its own
best command. What it found, and what it added to each fault, is kept in docs/overhead/peers.json,
and docs/peers.md is made of that.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from tests.bench import guest

PAGES, ROUNDS = 1024, 7
_CHECKOUT = Path(__file__).parents[2]
_JOB = (str(_CHECKOUT / "build/workloads/costs"), str(PAGES))
_FIGURES, PAGE = _CHECKOUT / "docs/overhead/peers.json", _CHECKOUT / "docs/peers.md"
_KERNEL = "trixie"
_TIMEOUT = 1800.0
# A write by user space to a page that is there: bits of the x86 error code.
_EVENT = ("-e", "exceptions:page_fault_user", "--filter", "error_code == 7")
_SCRIPT = "kfunc:do_wp_page /pid == cpid/ { @[args->vmf->vma->vm_start] = count(); }"
_WITHOUT = "untraced"
_INTRODUCTION = f"""\
# Beside other tools

`make bench-peers` wrote this page. A program takes {ROUNDS * PAGES:,} write faults of pages that a
fork write-protected and that nobody shares any more: {PAGES:,} in each of {ROUNDS} mappings. Each
tool is asked for the write-protect faults of that program by its own best command, in one guest of
Debian 13's kernel that counts instructions. *counted* has some 80 of the program's start too, and,
but for bpftrace's, those of its children. Where a kernel may be preempted bpftrace's programs are
skipped now and then, and nothing says so.
"""
_QUESTIONS = """\
## What each can answer

| question | pte-trace | perf stat | perf record | bpftrace |
|---|---|---|---|---|
| how many write-protect faults | all | of user space | of user space | all, where none is skipped |
| of which mapping | yes | no | by address, from each sample | yes |
| was it reused or copied | yes | no | no | with a second program |
| what had write-protected it | yes | no | no | no |
| how many were saved, and where | yes | no | no | no |
| from where in the program | `--stacks` | no | yes | yes |
| writes of the kernel itself, and of others | yes | no | no | not told apart |
| the time that they took | yes | no | no | with a second program |

The tools of BCC (`funccount`, `stackcount`) count calls of `do_wp_page` as bpftrace does. They were
not run here: they compile against the headers of the kernel that runs, which these guests have not.
systing was not run: Debian has no package of it.
"""

Figures = dict[str, Any]


class Tool(NamedTuple):
    """How it is asked, before the command, and what of its FILE is the answer."""

    command: tuple[str, ...]
    answer: Callable[[Path], int]


def _of_document(file: Path) -> int:
    totals = json.loads(file.read_text())["totals"]
    return int(totals["write_faults"]["wp_reuse"] + totals["write_faults"]["wp_copy"])


def _of_stat(file: Path) -> int:
    (line,) = (each for each in file.read_text().splitlines() if "page_fault_user" in each)
    return int(line.split(",")[0])


def _of_samples(file: Path) -> int:
    script = ("perf", "script", "-i", str(file), "-F", "event")
    said = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    return said.count("page_fault_user")


def _of_map(file: Path) -> int:
    (counted,) = (
        told["data"]["@"]
        for told in map(json.loads, filter(None, file.read_text().splitlines()))
        if told["type"] == "map"
    )
    return sum(counted.values())


def _tools(file: str) -> dict[str, Tool]:
    run = ("pte-trace", "run", "--format", "json", "-o", file)
    bpftrace = ("bpftrace", "-q", "-f", "json", "-o", file, "-e", _SCRIPT, "-c")
    return {
        "pte-trace run": Tool((*run, "--"), _of_document),
        "pte-trace run --costs none": Tool((*run, "--costs", "none", "--"), _of_document),
        "pte-trace run --stacks": Tool((*run, "--stacks", "--"), _of_document),
        "perf stat": Tool(("perf", "stat", "-x", ",", "-o", file, *_EVENT, "--"), _of_stat),
        "perf record -g": Tool(("perf", "record", "-q", "-o", file, *_EVENT, "-g"), _of_samples),
        "bpftrace": Tool(bpftrace, _of_map),
    }


def measure() -> Figures:
    """In the guest: what each tool counted, and instructions for each page with it."""
    found = {_WITHOUT: _took(_JOB)}
    with tempfile.TemporaryDirectory() as folder:
        for at, name in enumerate(_tools("")):
            file = Path(folder) / str(at)
            tool = _tools(str(file))[name]
            job = (shlex.join(_JOB),) if name == "bpftrace" else _JOB
            found[name] = {**_took((*tool.command, *job)), "counted": tool.answer(file)}
    return {"release": os.uname().release, "tools": found}


def _took(command: tuple[str, ...]) -> Figures:
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = re.findall(r'^\{"pages".*\}$', said, re.MULTILINE)
    took = json.loads(line)
    return {
        "write-protect fault": (took["reuse"] - took["again"]) / PAGES,
        "first touch": took["first_touch"] / PAGES,
    }


def page() -> str:
    """docs/peers.md, of what was found last."""
    return "\n".join(_lines(json.loads(_FIGURES.read_text())))


def _lines(found: Figures) -> Iterator[str]:
    yield _INTRODUCTION
    tools = found["tools"]
    base = tools[_WITHOUT]
    yield f"| on Linux {found['release']} | counted | a write-protect fault | a first touch |"
    yield "|---|---|---|---|"
    kinds = ("write-protect fault", "first touch")
    yield f"| *{_WITHOUT}* | - | {' | '.join(f'{base[kind]:,.0f}' for kind in kinds)} |"
    for name, tool in tools.items():
        if name != _WITHOUT:
            added = " | ".join(f"+{max(0, tool[kind] - base[kind]):,.0f}" for kind in kinds)
            yield f"| {name} | {tool['counted']:,} | {added} |"
    yield ""
    yield "Instructions of each fault, and what the tool adds to them. The commands:"
    yield ""
    for name, tool in _tools("FILE").items():
        job = "'PROGRAM'" if name == "bpftrace" else "PROGRAM"
        yield f"- {name}: `{shlex.join(tool.command)} {job}`"
    yield ""
    yield _QUESTIONS.rstrip()
    yield ""


def _table(found: Figures) -> Table:
    table = Table("tool", "counted", "write-protect fault", "first touch", box=None)
    for name, tool in found["tools"].items():
        table.add_row(
            name,
            str(tool.get("counted", "-")),
            f"{tool['write-protect fault']:,.0f}",
            f"{tool['first touch']:,.0f}",
        )
    return table


def main() -> None:
    found = guest.measured("tests.bench.peers", _KERNEL, _TIMEOUT)
    guest.record(found, _table(found), _FIGURES)
    PAGE.write_text(page())


if __name__ == "__main__":
    guest.program(measure, main)
