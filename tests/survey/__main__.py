"""What pte-trace does on each kernel: the plan, and whether the workload table is exact there.

    make survey                       docs/kernels.md, of the lab's kernels
    python -m tests.survey KERNEL…    these anew, the others as they were found last

A guest of each kernel asks the doctor and runs tests/kernel/test_workloads.py. What was found is
kept in docs/kernels/KERNEL.json, and docs/kernels.md is made of that.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pte_trace import lab
from pte_trace.host.plan import HOOKS

_CHECKOUT = Path(__file__).parents[2]
PAGE, FOUND = _CHECKOUT / "docs/kernels.md", _CHECKOUT / "docs/kernels"
_IN_GUEST = "--in-guest"
_TIMEOUT = 2400.0
_TABLE = ("tests/kernel/test_workloads.py", "--disable-plugin-autoload", "-p", "pytest_timeout")
_INTRODUCTION = """\
# Kernels

`make survey` wrote this page. On each kernel it asked `pte-trace doctor` for the plan, and ran the
workload table of the tests (`tests/workloads/expected.toml`): each row is a program whose faults
and entries are known, and *exact* are the rows of which every figure was right, to the last fault.
The kernels are the lab's (`pte-trace lab list`): Debian's, and some that it builds.

On real-time kernels what write-protected hugetlb's pages, and a file's private ones, is `unknown`:
their page tables' locks are not where those pages are found by.

Of a kernel that is not here `pte-trace doctor --kernel FILE` says what the plan would be.
"""

Found = dict[str, Any]


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == [_IN_GUEST]:
        in_guest(Path(arguments[1]))
        return
    FOUND.mkdir(exist_ok=True)
    for kernel in arguments:
        print(f"{kernel}", flush=True)
        found = _of_guest(kernel)
        (FOUND / f"{kernel}.json").write_text(json.dumps(found, indent=2) + "\n")
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(_CHECKOUT)} is written.")


def in_guest(directory: Path) -> None:
    """Put the doctor's words and the table's results into *directory*."""
    doctor = subprocess.run(["pte-trace", "doctor", "--json"], stdout=subprocess.PIPE, check=False)
    (directory / "doctor.json").write_bytes(doctor.stdout)
    table = [*_TABLE, "-q", "-p", "no:cacheprovider", f"--junitxml={directory}/table.xml"]
    subprocess.run([sys.executable, "-m", "pytest", *table], check=False)


def _of_guest(kernel: str) -> Found:
    with tempfile.TemporaryDirectory() as name:
        command = ["python", "-m", "tests.survey", _IN_GUEST, name]
        done = lab.run(kernel, command, cpus=1, timeout=_TIMEOUT, rwdirs=[Path(name)])
        if done.returncode:
            sys.exit(done.stderr.decode())
        doctor = json.loads((Path(name) / "doctor.json").read_bytes())
        cases = list(ElementTree.parse(Path(name) / "table.xml").iter("testcase"))
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


def page() -> str:
    """docs/kernels.md, of what was found last of each kernel."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(FOUND.glob("*.json"))}
    ordered = dict(sorted(found.items(), key=lambda each: _numbers(each[1]["release"])))
    return "\n".join([_INTRODUCTION, *_overview(ordered), "", *_hooks(ordered), *_worse(ordered)])


def _numbers(release: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(part) for part in release.split("-")[0].split("+")[0].split(".")), release


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
    main(sys.argv[1:])
