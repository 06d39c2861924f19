"""A snapshot for a person to read: tables and sentences, in a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from pte_trace.records import CAUSES, OUTCOMES, Counts
from pte_trace.snapshot import Snapshot, VmaRow, ordered

_PIPE_WIDTH = 1000
_OPTIMIZATION = {True: "at work", False: "absent", None: "unknown"}
_HEADINGS = {
    "wp_reuse": "REUSE",
    "wp_copy": "COPY",
    "wp_shared": "SHARED",
    "wp_uffd": "UFFD",
    "other": "OTHER",
    "error": "ERROR",
}


def console(stream: IO[str]) -> Console:
    """A console for *stream*: colour and its width for a terminal, plain long lines for a pipe."""
    if stream.isatty():
        return Console(file=stream, highlight=False)
    return Console(file=stream, highlight=False, width=_PIPE_WIDTH, no_color=True)


def printable(text: str) -> str:
    """Control characters shown as escapes: a process may call itself anything."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _number(value: int) -> Text:
    return Text(f"{value:,}" if value else "-", style="" if value else "dim")


def _counts(counts: Counts) -> list[Text]:
    return [
        _number(sum(counts.changes)),
        _number(sum(counts.ptes_changed)),
        _number(sum(counts.write_faults)),
        *(_number(faults) for faults in counts.write_faults),
    ]


def vma_table(rows: Iterable[VmaRow], totals: Counts, hidden: int = 0) -> Table:
    """A line per mapping, and the totals of all, also of the *hidden* ones not shown."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("PID", justify="right", no_wrap=True)
    table.add_column("COMM", no_wrap=True)
    table.add_column("RANGE", no_wrap=True)
    table.add_column("PERM", no_wrap=True)
    table.add_column("MAPPING", overflow="ellipsis", no_wrap=True, min_width=8)
    for heading in ("CHANGES", "PTES", "FAULTS", *(_HEADINGS[name] for name in OUTCOMES)):
        table.add_column(heading, justify="right", no_wrap=True)
    for vma in rows:
        table.add_row(
            Text(str(vma.pid)),
            Text(printable(vma.comm)),
            Text(f"{vma.start:x}-{vma.end:x}"),
            Text(vma.perms),
            Text(printable(vma.name)),
            *_counts(vma.counts),
        )
    label = f"total ({hidden:,} more mappings)" if hidden else "total"
    table.add_row(*[""] * 4, Text(label, style="bold"), *_counts(totals))
    return table


def heading(snapshot: Snapshot) -> Text:
    kernel = snapshot.kernel
    return Text(
        f"Linux {kernel.release}, mprotect optimization {_OPTIMIZATION[kernel.optimization]}; "
        f"{snapshot.duration_s:.3f} s traced"
    )


def notes(snapshot: Snapshot) -> list[Text]:
    """What a reader of the numbers must know about them."""
    health = snapshot.health
    lines = [
        f"Hook {hook}: {attachment.degraded}"
        for hook, attachment in snapshot.hooks.items()
        if attachment.degraded
    ]
    if health.map_full:
        lines.append(
            f"{health.map_full:,} events found no room for their VMA: they are counted in the"
            " totals, not in a mapping. More room: --max-vmas."
        )
    if health.missed_runs:
        lines.append(
            f"The kernel skipped {health.missed_runs:,} runs of our programs: not counted."
        )
    return [Text(line, style="yellow") for line in lines]


def sentence(snapshot: Snapshot) -> Text:
    """What the numbers say, for a person to quote."""
    faults = sum(snapshot.totals.write_faults)
    changed = dict(zip(CAUSES, snapshot.totals.ptes_changed, strict=True))["mprotect"]
    return Text(
        f"mprotect changed {changed:,} PTEs; of {faults:,} write faults "
        f"{snapshot.totals.avoidable:,} found their page ready to be reused (avoidable)."
    )


def report(snapshot: Snapshot) -> RenderableType:
    """The whole report, as `run` prints it."""
    return Group(
        heading(snapshot),
        Text(),
        vma_table(ordered(snapshot.vmas, "faults"), snapshot.totals),
        Text(),
        sentence(snapshot),
        *notes(snapshot),
    )


def interval(snapshot: Snapshot, sort: str, rows: int | None) -> RenderableType:
    """One interval, as `top` shows it: at most *rows* mappings, the totals of all."""
    shown = ordered(snapshot.vmas, sort)[:rows]
    hidden = len(snapshot.vmas) - len(shown)
    table = vma_table(shown, snapshot.totals, hidden)
    return Group(heading(snapshot), table, *notes(snapshot), Text())
