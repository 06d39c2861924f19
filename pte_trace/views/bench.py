"""What a benchmark found: for a person, as JSON (schema 1) and as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pte_trace.bench.results import ACCESSES, PHASES, Case, Faults, Macro, Micro, Tracing
from pte_trace.counted.counters import OUTCOMES
from pte_trace.views import sentences
from pte_trace.views.document import SCHEMA
from pte_trace.views.text import console

_RATIOS = {"second": "/SECOND", "soft_dirty": "/SOFT-DIRTY"}
_UNITS = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10}


def write(result: Micro | Macro, style: str, stream: IO[str]) -> None:
    """The whole result. *style* is ``text``, ``json`` or ``csv``."""
    if style == "text":
        console(stream).print(report(result))
    elif style == "json":
        json.dump(document(result), stream)
        stream.write("\n")
    else:
        _write_csv(result, stream)
    stream.flush()


def report(result: Micro | Macro) -> RenderableType:
    """For a person: times to three digits, the longest to two, faults per iteration."""
    shown = _micro(result) if isinstance(result, Micro) else _macro(result)
    return Group(Text(sentences.kernel(result.kernel)), *shown, *_notes(result))


def size(number: int) -> str:
    """Bytes in the largest unit that leaves a whole number."""
    for unit, bytes_ in _UNITS.items():
        if number % bytes_ == 0:
            return f"{number // bytes_:,} {unit}"
    return f"{number:,} B"


def count(number: float) -> str:
    """Faults per iteration: whole where each iteration was like the others."""
    return f"{number:,.10g}" if number else "-"


def _micro(result: Micro) -> Iterator[RenderableType]:
    tracing = result.tracing
    yield Text(f"{result.iterations:,} iterations, untraced")
    yield Text()
    outcomes = _seen(write.faults for case in result.cases for write in case.writes.values())
    ratios = {to: heading for to, heading in _RATIOS.items() if result.soft_dirty or to == "second"}
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SIZE", "WRITTEN", "WRITE"):
        table.add_column(heading, no_wrap=True)
    faults = ("FAULTS", *map(_heading, outcomes)) if tracing else ()
    for heading in ("MIN", "MAX", "AVG", *ratios.values(), *faults):
        table.add_column(heading, justify="right", no_wrap=True)
    for case in result.cases:
        for line in _lines(case, ratios, outcomes):
            table.add_row(*line)
    yield table
    yield Text()


def _lines(case: Case, ratios: Iterable[str], outcomes: tuple[str, ...]) -> Iterator[list[str]]:
    for phase, write in case.writes.items():
        times = write.times
        cells = [size(case.size), ACCESSES[case.access], PHASES[phase]]
        cells += map(time, (times.min_ns, times.max_ns, times.avg_ns))
        found = [case.after_mprotect_to(other) if phase == "mprotect" else None for other in ratios]
        cells += ["" if number is None else ratio(number) for number in found]
        if write.faults:
            cells += [count(write.faults.all), *(count(write.faults.of(each)) for each in outcomes)]
        yield cells


def duration(nanoseconds: float) -> str:
    return sentences.duration(nanoseconds / 1e9)


def time(nanoseconds: float) -> str:
    """To two digits: how much of the kernel's own bookkeeping falls into a write is chance."""
    return duration(float(f"{nanoseconds:.2g}"))


def ratio(number: float) -> str:
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


def _seen(faults: Iterable[Faults | None]) -> tuple[str, ...]:
    """The outcomes that occur."""
    taken = [each for each in faults if each]
    return tuple(name for name in OUTCOMES if any(each.of(name) for each in taken))


def _heading(outcome: str) -> str:
    return outcome.removeprefix("wp_").upper()


def _macro(result: Macro) -> Iterator[RenderableType]:
    yield Text(
        f"{size(result.size)} made read-only, writable again and rewritten {result.loops:,} times:"
        f" {duration(result.seconds * 1e9)}, untraced"
    )
    if result.faults:
        kinds = ", ".join(
            f"{count(result.faults.of(each))} {each}" for each in _seen([result.faults])
        )
        yield Text(f"Write faults in each loop: {kinds or 'none'}")


def _notes(result: Micro | Macro) -> Iterator[RenderableType]:
    said = []
    if isinstance(result, Micro) and not result.soft_dirty:
        said.append("This kernel does not track soft-dirty pages: no write after clearing them.")
    if result.tracing is None:
        said.append("No faults were counted (--no-trace).")
    else:
        said.append(f"Faults are those of each of {result.tracing.iterations} more, traced.")
        if lost := _lost(result.tracing):
            said.append(f"The tracing lost {lost:,} events: the faults are more than shown.")
    return (Text(line) for line in said)


def _lost(tracing: Tracing) -> int:
    return tracing.health.map_full + tracing.health.missed_runs


def document(result: Micro | Macro) -> dict[str, Any]:
    """Times in nanoseconds, unrounded; faults per iteration, null where nothing was traced."""
    tracing = result.tracing
    own = _micro_document(result) if isinstance(result, Micro) else _macro_document(result)
    return {
        "schema": SCHEMA,
        "kernel": {
            "release": result.kernel.release,
            "optimization": result.kernel.optimization,
        },
        **own,
        "traced_iterations": tracing and tracing.iterations,
        "lost_events": tracing and _lost(tracing),
    }


def _micro_document(result: Micro) -> dict[str, Any]:
    return {
        "benchmark": "micro",
        "iterations": result.iterations,
        "soft_dirty": result.soft_dirty,
        "cases": [
            {
                "size": case.size,
                "access": case.access,
                "writes": {
                    phase: {
                        "min_ns": write.times.min_ns,
                        "max_ns": write.times.max_ns,
                        "avg_ns": write.times.avg_ns,
                        "write_faults": _faults(write.faults),
                    }
                    for phase, write in case.writes.items()
                },
                "mprotect_to": {other: case.after_mprotect_to(other) for other in _RATIOS},
            }
            for case in result.cases
        ],
    }


def _macro_document(result: Macro) -> dict[str, Any]:
    return {
        "benchmark": "macro",
        "size": result.size,
        "loops": result.loops,
        "seconds": result.seconds,
        "write_faults": _faults(result.faults),
    }


def _faults(faults: Faults | None) -> dict[str, float] | None:
    return None if faults is None else dict(zip(OUTCOMES, faults.per_iteration, strict=True))


def _write_csv(result: Micro | Macro, stream: IO[str]) -> None:
    """A line per write; columns that are not known are left out."""
    rows = list(_csv_rows(document(result)))
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _csv_rows(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if entry["benchmark"] == "macro":
        yield {name: entry[name] for name in ("size", "loops", "seconds")} | _columns(entry)
        return
    ratios = [other for other in _RATIOS if entry["soft_dirty"] or other == "second"]
    for case in entry["cases"]:
        for phase, write in case["writes"].items():
            yield {
                **{name: case[name] for name in ("size", "access")},
                "write": phase,
                **{name: write[name] for name in ("min_ns", "max_ns", "avg_ns")},
                **{
                    f"to_{other}": case["mprotect_to"][other] if phase == "mprotect" else None
                    for other in ratios
                },
                **_columns(write),
            }


def _columns(entry: dict[str, Any]) -> dict[str, float]:
    faults = entry["write_faults"] or {}
    return {f"write_faults_{outcome}": number for outcome, number in faults.items()}
