"""What pte-trace does on each kernel: the plan, and whether the workload table is exact there.

    make survey                       docs/kernels.md, of the lab's kernels
    python -m tests.survey KERNEL…    these anew, the others as they were found last

A KERNEL may have options to boot with, as trixie+preempt=full.

A guest of each kernel asks the doctor and runs tests/kernel/test_workloads.py. What was found is
kept in docs/kernels/KERNEL.json, and docs/kernels.md is made of that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pte_trace.host.plan import HOOKS
from tests import by_kernel
from tests.bench import guest

_CHECKOUT = Path(__file__).parents[2]
PAGE, FOUND = _CHECKOUT / "docs/kernels.md", _CHECKOUT / "docs/kernels"
_TIMEOUT = 2400.0
_TABLE = ("tests/kernel/test_workloads.py", "--disable-plugin-autoload", "-p", "pytest_timeout")
_INTRODUCTION = """\
# Kernels

`make survey` wrote this page. On each kernel it asked `pte-trace doctor` for the plan, and ran the
workload table of the tests (`tests/workloads/expected.toml`): each row is a program whose faults
and entries are known, and *exact* are the rows of which every figure was right, to the last fault.
The kernels are the lab's (`pte-trace lab list`): Debian's, and some that it builds. After a `+` is
what one was booted with: else each has what Debian chose, and page tables of five levels.

A row is left out where the kernel has not what it is about: a real-time kernel has no huge pages,
an old one no `userfaultfd(2)` that takes note of writes.

Of a kernel that is not here `pte-trace doctor --kernel FILE` says what the plan would be.
"""

Found = dict[str, Any]


def measure() -> Found:
    """In the guest: what the doctor says, and which rows are not exact and why."""
    said = subprocess.run(["pte-trace", "doctor", "--json"], stdout=subprocess.PIPE, check=False)
    doctor = json.loads(said.stdout)
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "table.xml"
        table = [*_TABLE, "-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
        subprocess.run([sys.executable, "-m", "pytest", *table], check=False)
        cases = list(ElementTree.parse(results).iter("testcase"))
    wrong = {
        str(case.get("name")).partition("[")[2].rstrip("]"): str(each.get("message")).splitlines()[
            0
        ]
        for case in cases
        for each in (*case.iter("failure"), *case.iter("error"))
    }
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "release": doctor["kernel"]["release"],
        "optimization": doctor["kernel"]["optimization"],
        "facts": {name: doctor["facts"][name] for name in ("preemptible", "realtime")},
        "hooks": doctor["hooks"],
        "rows": len(cases),
        "not_exact": dict(sorted(wrong.items())),
    }


def main(*kernels: str) -> None:
    by_kernel.ask("tests.survey", kernels, FOUND, _TIMEOUT)
    PAGE.write_text(page(by_kernel.kept(FOUND)))
    print(f"{PAGE.relative_to(_CHECKOUT)} is written.")


def page(found: Mapping[str, Found]) -> str:
    """docs/kernels.md, of what was found last of each kernel."""
    return "\n".join([_INTRODUCTION, *_overview(found), "", *_hooks(found), *_worse(found)])


def _overview(found: Mapping[str, Found]) -> Iterator[str]:
    yield "| kernel | release | tested | optimization | may be preempted | rows | exact |"
    yield "|---|---|---|---|---|---|---|"
    for kernel, of in found.items():
        preempted = "everywhere" if of["facts"]["realtime"] else _said(of["facts"]["preemptible"])
        exact = of["rows"] - len(of["not_exact"])
        shown = f"{exact}" if exact == of["rows"] else f"**{exact}**"
        yield (
            f"| `{kernel}` | {of['release']} | {of['date']} | {_said(of['optimization'])} |"
            f" {preempted} | {of['rows']} | {shown} |"
        )


def _said(known: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[known]


def _hooks(found: Mapping[str, Found]) -> Iterator[str]:
    """Kernels with one plan are one column."""
    plans: dict[str, list[str]] = {}
    for kernel, of in found.items():
        plans.setdefault(json.dumps(_ways(of)), []).append(f"`{kernel}`")
    yield "## How each hook is attached\n"
    yield f"| hook | {' | '.join(', '.join(kernels) for kernels in plans.values())} |"
    yield f"|---|{'---|' * len(plans)}"
    ways = [json.loads(plan) for plan in plans]
    for hook in HOOKS:
        yield f"| `{hook.name}` | {' | '.join(way.get(hook.name, '-') for way in ways)} |"
    yield "\n*-*: not attached, because there is no such function or nothing to see there.\n"


def _ways(found: Found) -> dict[str, str]:
    return {
        hook: attached["how"]
        + ("" if attached["attached"] == hook else f" of `{attached['attached']}`")
        for hook, attached in found["hooks"].items()
    }


def _worse(found: Mapping[str, Found]) -> Iterator[str]:
    inexact = {kernel: of["not_exact"] for kernel, of in found.items() if of["not_exact"]}
    if not inexact:
        return
    yield "## Rows that are not exact\n"
    for kernel, rows in inexact.items():
        yield from (f"- `{kernel}`, `{row}`: {said}" for row, said in rows.items())
    yield ""


if __name__ == "__main__":
    guest.program(measure, main)
