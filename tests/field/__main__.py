"""Real programs under pte-trace, in kernels of the lab, beside what does not depend on it.

    make field                       docs/field.md, of the lab's kernels
    python -m tests.field KERNEL…    these anew, the others as they were found last

A KERNEL may have options to boot with, as sid+transparent_hugepage=never.

A guest of each kernel runs the jobs of programs.toml twice, traced by `pte-trace run`. In that
`perf stat` counts the write exceptions of user space and the signals they may have ended in, and
time(1) has getrusage(2)'s faults. What was found is kept in docs/field/KERNEL.json, and
docs/field.md is made of that.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pte_trace.counted.counters import AVOIDABLE
from tests import by_kernel
from tests.bench import guest

_CHECKOUT = Path(__file__).parents[2]
_MADE = _CHECKOUT / "build/field"
PAGE, FOUND = _CHECKOUT / "docs/field.md", _CHECKOUT / "docs/field"
_TIMEOUT = 3600.0
_RUNS = 2
# Write exceptions of user space, by bit 1 of the x86 error code; and SIGBUS and SIGSEGV.
_PERF = (
    *("perf", "stat", "-x", ","),
    *("-e", "exceptions:page_fault_user", "--filter", "error_code & 2"),
    *("-e", "signal:signal_generate", "--filter", "sig == 7 || sig == 11"),
)
_INTRODUCTION = """\
# In the field

`make field` wrote this page: it runs programs as Debian has them, none of them made for this, in
guests of the lab, traced by `pte-trace run`. What is beside the counters does not depend on
pte-trace:

- *exceptions*: write exceptions of user space, as `perf stat` counts them
  (`exceptions:page_fault_user`). They are the write faults of origin `user`, and those that ended
  in a signal.
- *signals*: SIGSEGV and SIGBUS, as `perf stat` counts them (`signal:signal_generate`): a
  collector's barrier, or a stress test that writes where it must not. Some may be of reads. No more
  than these may *exceptions* be above *user writes*.
- *getrusage*: minor and major faults of the job and what it waited for, reads among them.

*huge* are huge pages that were made writable. Guests have `transparent_hugepage=always`, as Debian
has, unless the kernel's name says otherwise: after a `+` is what it was booted with.

Each job ran twice on each kernel, and the table has the first run. Threads and time make some of it
chance: what that decides is what the second run had otherwise, which is said below the table.

Of each pair of built kernels the first one is without the optimization of private mappings, and
nothing else is different. What it *saved* is how many avoidable `wp_reuse` faults fewer there are
with it. What is at most saved, by what one kernel alone tells, is *made writable*: where that is 0
nothing was, and *exceptions* differ by chance, as they do from run to run.
"""
# Without the optimization, and with it.
_PAIRS = tuple(
    (f"unpatched{of}", f"patched{of}")
    for of in ("", "+transparent_hugepage=never", "-6.12", "-6.12+transparent_hugepage=never")
)
_COLUMNS = {
    "writable": "made writable",
    "huge": "huge",
    "reuse": "wp_reuse",
    "copy": "wp_copy",
    "uffd": "wp_uffd",
    "user": "user writes",
    "exceptions": "exceptions",
    "signals": "signals",
    "getrusage": "getrusage",
    "missed": "missed",
}

Figures = dict[str, Any]


def programs() -> list[dict[str, str]]:
    """The jobs, in the order of the page."""
    found: list[dict[str, str]] = tomllib.loads(
        Path(__file__).with_name("programs.toml").read_text()
    )["program"]
    return found


def measure() -> Figures:
    """In the guest: the figures of each run of each program, by its name."""
    return {
        "release": os.uname().release,
        "programs": {each["name"]: [traced(each) for _ in range(_RUNS)] for each in programs()},
    }


def main(*kernels: str) -> None:
    by_kernel.ask("tests.field", kernels, FOUND, _TIMEOUT)
    PAGE.write_text(page(by_kernel.kept(FOUND)))
    print(f"{PAGE.relative_to(_CHECKOUT)} is written.")


def traced(program: Mapping[str, str]) -> Figures:
    """What was counted of one program, and what others counted of it."""
    with tempfile.TemporaryDirectory() as name:
        counted, exceptions, usage = (Path(name) / each for each in ("counted", "perf", "time"))
        job = ["/usr/bin/time", "-o", str(usage), "-f", "%R %F", "sh", "-c", program["command"]]
        done = subprocess.run(
            [
                *("pte-trace", "run", "--format", "json", "-o", str(counted), "--"),
                *(*_PERF, "-o", str(exceptions), "--", *job),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "FIELD": str(_MADE)},
            cwd=_CHECKOUT,
            check=False,
        )
        if done.returncode:
            return {"failed": done.stderr[-2000:]}
        said = exceptions.read_text()
        return {
            "exceptions": _events(said, "page_fault_user"),
            "signals": _events(said, "signal_generate"),
            "getrusage": sum(map(int, usage.read_text().split()[-2:])),
            **_counted(json.loads(counted.read_text())),
        }


def _events(said: str, name: str) -> int | None:
    """None where the kernel has no such event."""
    (count,) = (line.split(",")[0] for line in said.splitlines() if name in line)
    return int(count) if count.isdigit() else None


def _counted(document: Mapping[str, Any]) -> Figures:
    """Without perf, which begins to count where it executes the job."""
    rows = [row for row in document["processes"] if row["comm"] != "perf"]

    def total(*path: str) -> int:
        found = 0
        for row in rows:
            value: Any = row
            for key in path:
                value = value[key]
            found += value
        return found

    return {
        "user": total("write_faults_origin", "user"),
        "errors": total("write_faults", "error"),
        "writable": total("ptes_made_writable"),
        "huge": total("pmds_made_writable"),
        "reuse": total("write_faults", "wp_reuse"),
        "copy": total("write_faults", "wp_copy"),
        "uffd": total("write_faults", "wp_uffd"),
        "other": total("write_faults", "other"),
        "protected_by": {
            outcome: {cause: total("wp_protected_by", outcome, cause) for cause in causes}
            for outcome, causes in rows[0]["wp_protected_by"].items()
        },
        "missed": document["health"]["missed_runs"],
    }


def page(found: Mapping[str, Figures]) -> str:
    """docs/field.md, of what was found last on each kernel."""
    return "\n".join(_lines({kernel: of["programs"] for kernel, of in found.items()})) + "\n"


def _lines(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> Iterator[str]:
    yield _INTRODUCTION
    yield from _overview(found)
    for program in programs():
        command = program["command"].replace("$FIELD/", "")
        yield f"## {program['name']}\n\n`{command}`: {program['about']}.\n"
        yield f"{program['says']}\n"
        runs = {kernel: of[program["name"]] for kernel, of in found.items()}
        ran = {kernel: figures for kernel, (figures, *_) in runs.items() if "failed" not in figures}
        yield f"| kernel | {' | '.join(_COLUMNS.values())} |"
        yield f"|---|{'---|' * len(_COLUMNS)}"
        for kernel, figures in ran.items():
            yield f"| `{kernel}` | {' | '.join(_shown(figures[name]) for name in _COLUMNS)} |"
        yield ""
        yield from (f"- `{kernel}`: the job failed here." for kernel in runs if kernel not in ran)
        yield from _protectors(ran)
        for without, with_it in _PAIRS:
            if without in ran and with_it in ran:
                yield _saved(with_it, ran[without], ran[with_it])
        yield from _differing(runs)
        yield ""


def _overview(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> Iterator[str]:
    """The headline of each program, on the first pair that it ran on."""
    yield "| program | avoidable faults without the optimization | with it | made writable |"
    yield "|---|---|---|---|"
    for name in (program["name"] for program in programs()):
        for without, with_it in _PAIRS:
            pair = [found[kernel][name][0] for kernel in (without, with_it) if kernel in found]
            if len(pair) == 2 and not any("failed" in figures for figures in pair):
                avoidable = " | ".join(f"{_avoidable(figures):,}" for figures in pair)
                link = re.sub(r"[^a-z0-9 -]", "", name.lower()).replace(" ", "-")
                yield f"| [{name}](#{link}) | {avoidable} | {pair[1]['writable']:,} |"
                break
    same, runs = _agreement(found)
    yield ""
    yield (
        f"Of {runs:,} runs, those on all kernels, *user writes* are just perf's *exceptions* in"
        f" {same:,}, and in the others that is explained below.\n"
    )


def _agreement(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> tuple[int, int]:
    """In how many runs two counters are the same, and in how many both counted."""
    counted = [
        figures
        for of in found.values()
        for runs in of.values()
        for figures in runs
        if figures.get("exceptions") is not None
    ]
    return sum(figures["user"] == figures["exceptions"] for figures in counted), len(counted)


def _shown(figure: int | None) -> str:
    return "-" if figure is None else f"{figure:,}"


def _protectors(ran: Mapping[str, Figures]) -> Iterator[str]:
    """What had write-protected the pages; kernels of which it is the same are one line."""
    same: dict[str, list[str]] = {}
    for kernel, figures in ran.items():
        said = "; ".join(
            f"{outcome}: {_causes(counted)}" for outcome, counted in figures["protected_by"].items()
        )
        same.setdefault(said, []).append(f"`{kernel}`")
    yield from (f"- {', '.join(kernels)}: {said}." for said, kernels in same.items())


def _differing(runs: Mapping[str, Sequence[Figures]]) -> Iterator[str]:
    """What a second run had otherwise."""
    for kernel, (first, *others) in runs.items():
        for other in others:
            if "failed" in first or "failed" in other:
                continue
            said = ", ".join(
                f"{heading} {_shown(other[name])}"
                for name, heading in _COLUMNS.items()
                if other[name] != first[name]
            )
            if said:
                yield f"- `{kernel}` again: {said}."


def _avoidable(figures: Figures) -> int:
    return sum(figures["protected_by"]["wp_reuse"][cause] for cause in AVOIDABLE)


def _saved(kernel: str, without: Figures, with_it: Figures) -> str:
    fewer, writable = _avoidable(without) - _avoidable(with_it), with_it["writable"]
    said = f"- `{kernel}`: saved {fewer:,} faults, of {writable:,} PTEs made writable"
    if without["writable"]:
        said = f"- `{kernel}`: made writable PTEs without the optimization as well"
    elif not writable:
        said = f"- `{kernel}`: saved nothing"
    elif fewer > 0:
        said += f" ({writable / fewer:.1f} for each)"
    if None not in (without["exceptions"], with_it["exceptions"]):
        fewer = without["exceptions"] - with_it["exceptions"]
        said += f"; exceptions are {abs(fewer):,} {'fewer' if fewer >= 0 else 'more'}"
    return f"{said}."


def _causes(counted: Mapping[str, int]) -> str:
    named = sorted(counted.items(), key=lambda each: -each[1])
    return ", ".join(f"{number:,} {cause}" for cause, number in named if number) or "-"


if __name__ == "__main__":
    guest.program(measure, main)
