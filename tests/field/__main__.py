"""Real programs under pte-trace, in kernels of the lab, beside what does not depend on it.

    make field                       docs/field.md, of the lab's kernels
    python -m tests.field KERNEL…    these anew, the others as they were found last

A guest of each kernel runs the jobs of programs.toml, each traced by `pte-trace run`. In that
`perf stat` counts the write exceptions of user space, and time(1) has getrusage(2)'s faults. What
was found is kept in docs/field/KERNEL.json, and docs/field.md is made of that.
"""

from __future__ import annotations

import json
import os
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
# Write exceptions of user space: bit 1 of the x86 error code.
_WRITES = ("-e", "exceptions:page_fault_user", "--filter", "error_code & 2")
_INTRODUCTION = """\
# In the field

`make field` wrote this page: it runs programs as Debian has them, none of them made for this, in
guests of the lab, traced by `pte-trace run`. What is beside the counters does not depend on
pte-trace:

- *exceptions*: write exceptions of user space, as `perf stat` counts them
  (`exceptions:page_fault_user`). They are the write faults of origin `user`, and those that ended
  in a signal.
- *getrusage*: minor and major faults of the job and what it waited for, reads among them.

Threads and time make some of it chance: each job ran once on each kernel. Where *exceptions* are
more than *user writes*, the rest are taken to be the job's own signals: a collector's barrier, or a
stress test that writes where it must not. They were not counted apart.

Of each pair of built kernels the first one is without the optimization of private mappings, and
nothing else is different. What it *saved* is how many avoidable `wp_reuse` faults fewer there are
with it. What is at most saved, by what one kernel alone tells, is *made writable*.
"""
# Without the optimization, and with it.
_PAIRS = (("unpatched", "patched"), ("unpatched-6.12", "patched-6.12"))

Figures = dict[str, Any]


def programs() -> list[dict[str, str]]:
    """The jobs, in the order of the page."""
    found: list[dict[str, str]] = tomllib.loads(
        Path(__file__).with_name("programs.toml").read_text()
    )["program"]
    return found


def measure() -> Figures:
    """In the guest: the figures of each program."""
    return {"release": os.uname().release, "programs": [traced(each) for each in programs()]}


def main(*kernels: str) -> None:
    for kernel in kernels:
        print(f"{len(programs())} programs on {kernel}", flush=True)
        found = guest.measured("tests.field", kernel, _TIMEOUT, icount=False)
        by_kernel.keep(FOUND, kernel, found)
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
                *("perf", "stat", "-x", ",", "-o", str(exceptions), *_WRITES, "--", *job),
            ],
            capture_output=True,
            text=True,
            env={**os.environ, "FIELD": str(_MADE)},
            cwd=_CHECKOUT,
            check=False,
        )
        if done.returncode:
            return {"name": program["name"], "failed": done.stderr[-2000:]}
        return {
            "name": program["name"],
            "exceptions": _exceptions(exceptions.read_text()),
            "getrusage": sum(map(int, usage.read_text().split()[-2:])),
            **_counted(json.loads(counted.read_text())),
        }


def _exceptions(said: str) -> int | None:
    """None where the kernel has no such event."""
    (count,) = (line.split(",")[0] for line in said.splitlines() if "page_fault_user" in line)
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
        "reuse": total("write_faults", "wp_reuse"),
        "copy": total("write_faults", "wp_copy"),
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


def _lines(found: Mapping[str, Sequence[Figures]]) -> Iterator[str]:
    yield _INTRODUCTION
    for at, program in enumerate(programs()):
        command = program["command"].replace("$FIELD/", "")
        yield f"## {program['name']}\n\n`{command}`: {program['about']}.\n"
        yield (
            "| kernel | made writable | wp_reuse | of it | wp_copy | of it | user writes |"
            " exceptions | getrusage | missed |"
        )
        yield "|---|---|---|---|---|---|---|---|---|---|"
        for kernel, figures in found.items():
            yield _row(kernel, figures[at])
        yield ""
        for without, with_it in _PAIRS:
            if without in found and with_it in found:
                yield _saved(with_it, found[without][at], found[with_it][at])
        yield program.get("says", "")


def _row(kernel: str, figures: Figures) -> str:
    if "failed" in figures:
        return f"| `{kernel}` | the job failed here |"
    exceptions = figures["exceptions"]
    cells = (
        f"`{kernel}`",
        f"{figures['writable']:,}",
        f"{figures['reuse']:,}",
        _causes(figures["protected_by"]["wp_reuse"]),
        f"{figures['copy']:,}",
        _causes(figures["protected_by"]["wp_copy"]),
        f"{figures['user']:,}",
        "-" if exceptions is None else f"{exceptions:,}",
        f"{figures['getrusage']:,}",
        f"{figures['missed']:,}",
    )
    return f"| {' | '.join(cells)} |"


def _avoidable(figures: Figures) -> int:
    return sum(figures["protected_by"]["wp_reuse"][cause] for cause in AVOIDABLE)


def _saved(kernel: str, without: Figures, with_it: Figures) -> str:
    if "failed" in without or "failed" in with_it:
        return f"- `{kernel}`: there is nothing to compare."
    saved, writable = _avoidable(without) - _avoidable(with_it), with_it["writable"]
    said = f"- `{kernel}`: saved {saved:,} faults, of {writable:,} PTEs made writable"
    if saved > 0 and writable:
        said += f" ({writable / saved:.1f} for each)"
    if None not in (without["exceptions"], with_it["exceptions"]):
        fewer = without["exceptions"] - with_it["exceptions"]
        said += f"; exceptions are {abs(fewer):,} {'fewer' if fewer >= 0 else 'more'}"
    return f"{said}."


def _causes(counted: Mapping[str, int]) -> str:
    named = sorted(counted.items(), key=lambda each: -each[1])
    return ", ".join(f"{number:,} {cause}" for cause, number in named if number) or "-"


if __name__ == "__main__":
    guest.program(measure, main)
