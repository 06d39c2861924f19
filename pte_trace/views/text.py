"""A snapshot for a person to read: tables and sentences, in a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pte_trace import plan
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
_COLUMNS = (
    *("PID", "COMM", "RANGE", "PERM", "MAPPING"),
    *("CHANGES", "PTES", "FAULTS", *_HEADINGS.values()),
)
_LEFT_OUT_FIRST = ("RANGE", "PERM", "ERROR", "UFFD", "SHARED", "CHANGES", "COMM")
_NARROWEST_MAPPING = 12


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


def _counts(counts: Counts) -> dict[str, Text]:
    """The cells of the columns that count."""
    outcomes = zip(OUTCOMES, counts.write_faults, strict=True)
    return {
        "CHANGES": _number(sum(counts.changes)),
        "PTES": _number(sum(counts.ptes_changed)),
        "FAULTS": _number(sum(counts.write_faults)),
        **{_HEADINGS[name]: _number(faults) for name, faults in outcomes},
    }


class VmaTable:
    """A line per mapping, and the totals of all, also of the *hidden* ones not shown.

    Where it is too wide for the terminal columns are left out, never a digit of a number.
    """

    def __init__(self, rows: Iterable[VmaRow], totals: Counts, hidden: int = 0) -> None:
        self._rows = list(rows)
        self._totals = totals
        self._hidden = hidden

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        unlimited = options.update(max_width=_PIPE_WIDTH)
        for dropped in range(len(_LEFT_OUT_FIRST) + 1):
            left_out = set(_LEFT_OUT_FIRST[:dropped])
            least = self._table(left_out, _NARROWEST_MAPPING)
            spare = options.max_width - console.measure(least, options=unlimited).maximum
            if spare >= 0:
                break
        yield self._table(left_out, _NARROWEST_MAPPING + max(0, spare))

    def _table(self, left_out: set[str], mapping_width: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        shown = [heading for heading in _COLUMNS if heading not in left_out]
        for heading in shown:
            if heading == "MAPPING":
                table.add_column(
                    heading, no_wrap=True, overflow="ellipsis", max_width=mapping_width
                )
            else:
                right = heading not in ("COMM", "RANGE", "PERM")
                table.add_column(heading, justify="right" if right else "left", no_wrap=True)
        for vma in self._rows:
            cells = {
                "PID": Text(str(vma.pid)),
                "COMM": Text(printable(vma.comm)),
                "RANGE": Text(f"{vma.start:x}-{vma.end:x}"),
                "PERM": Text(vma.perms),
                "MAPPING": Text(printable(vma.name)),
                **_counts(vma.counts),
            }
            table.add_row(*(cells[heading] for heading in shown))
        label = f"total ({self._hidden:,} more)" if self._hidden else "total"
        totals = {"MAPPING": Text(label, style="bold"), **_counts(self._totals)}
        table.add_row(*(totals.get(heading, Text()) for heading in shown))
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
    lines = [f"Hook {hook.name}: {said}" for hook, said in plan.degraded(snapshot.hooks).items()]
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
        VmaTable(ordered(snapshot.vmas, "faults"), snapshot.totals),
        Text(),
        sentence(snapshot),
        *notes(snapshot),
    )


def interval(snapshot: Snapshot, sort: str, rows: int | None) -> RenderableType:
    """One interval, as `top` shows it: at most *rows* mappings, the totals of all."""
    shown = ordered(snapshot.vmas, sort)[:rows]
    hidden = len(snapshot.vmas) - len(shown)
    table = VmaTable(shown, snapshot.totals, hidden)
    said = [heading(snapshot), *notes(snapshot)]
    for line in said:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(said[0], table, *said[1:], Text())
