"""A snapshot for a person to read: tables and sentences, in a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from pte_trace.effort import Effort
from pte_trace.records import OUTCOMES, REASONS, Counts
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
    *("CHANGES", "PTES", "WRITABLE", "READONLY", "FAULTS", *_HEADINGS.values(), "EFFICACY"),
)
_LEFT_OUT_FIRST = (
    *("RANGE", "PERM", "ERROR", "UFFD", "SHARED", "CHANGES", "EFFICACY", "READONLY", "COMM"),
    *("OTHER", "PTES"),
)
_REASONS = {
    "clean": "not dirty",
    "soft_dirty": "soft-dirty tracking",
    "uffd_wp": "userfaultfd write protection",
    "shared": "shared or not anonymous",
}
_UNKNOWN = "?"
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


def _share(value: float | None) -> Text:
    return Text("-", style="dim") if value is None else Text(f"{value:.1%}")


def duration(seconds: float) -> str:
    """With the unit that leaves one to three digits before the point."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _counts(counts: Counts, effort: Effort) -> dict[str, Text]:
    """The cells of the columns that count."""
    outcomes = zip(OUTCOMES, counts.write_faults, strict=True)
    unknown = Text(_UNKNOWN, style="dim")
    looked = effort.inspects
    return {
        "CHANGES": _number(sum(counts.changes)),
        "PTES": _number(sum(counts.ptes_changed)),
        "WRITABLE": _number(sum(counts.made_writable)) if looked else unknown,
        "READONLY": _number(sum(counts.left_readonly)) if looked else unknown,
        "FAULTS": _number(sum(counts.write_faults)),
        **{_HEADINGS[name]: _number(faults) for name, faults in outcomes},
        "EFFICACY": _share(counts.efficacy) if looked else unknown,
    }


class VmaTable:
    """A line per mapping, and the totals of all, also of the *hidden* ones not shown.

    Where it is too wide for the terminal columns are left out, never a digit of a number.
    """

    def __init__(
        self, rows: Iterable[VmaRow], totals: Counts, effort: Effort, hidden: int = 0
    ) -> None:
        self._rows = list(rows)
        self._totals = totals
        self._effort = effort
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
                **_counts(vma.counts, self._effort),
            }
            table.add_row(*(cells[heading] for heading in shown))
        label = f"total ({self._hidden:,} more)" if self._hidden else "total"
        totals = {"MAPPING": Text(label, style="bold"), **_counts(self._totals, self._effort)}
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
    lines = [
        f"Hook {hook}: {attachment.degraded}"
        for hook, attachment in snapshot.hooks.items()
        if attachment.degraded
    ]
    lines += _extent(snapshot)
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


def _extent(snapshot: Snapshot) -> list[str]:
    """What was not looked at."""
    huge, limit = snapshot.totals.not_inspected
    lines = []
    if not snapshot.effort.inspects:
        lines.append("PTEs made writable and left read-only are not known (--inspect none).")
    if limit:
        lines.append(f"{limit:,} changed PTEs were not inspected (--inspect).")
    if huge:
        lines.append(f"{huge:,} changed pages lie in huge pages, which have no PTEs to inspect.")
    if snapshot.effort.costs > 1:
        lines.append(f"One of {snapshot.effort.costs:,} write faults was timed (--costs).")
    return lines


def sentences(snapshot: Snapshot) -> Text:
    """What the numbers say, for a person to quote."""
    return Text(" ".join([*_made_writable(snapshot), _remaining(snapshot)]))


def _made_writable(snapshot: Snapshot) -> list[str]:
    made = sum(snapshot.totals.made_writable)
    if not snapshot.effort.inspects:
        return []
    if not made:
        return ["No PTE was made writable by a protection change."]
    saved = snapshot.seconds_saved(snapshot.totals)
    if saved is None or snapshot.reuse_cost is None:
        return [f"The optimization made {made:,} PTEs writable at once."]
    cost = snapshot.reuse_cost
    return [
        f"The optimization made {made:,} PTEs writable at once; at "
        f"{duration(cost.nanoseconds / 1e9)} a fault that is at most {duration(saved)} saved"
        f" (an estimate, from {cost.source})."
    ]


def _remaining(snapshot: Snapshot) -> str:
    avoidable = snapshot.totals.avoidable
    if not avoidable:
        return "No avoidable fault remained."
    said = f"{avoidable:,} avoidable faults remained"
    left = {
        _REASONS[reason]: number
        for reason, number in zip(REASONS, snapshot.totals.left_readonly, strict=True)
        if number
    }
    if snapshot.kernel.optimization is False:
        return f"{said}: this kernel lacks the optimization."
    if left:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in left.items())
        return f"{said}; PTEs were left read-only because: {reasons}."
    return f"{said}."


def report(snapshot: Snapshot) -> RenderableType:
    """The whole report, as `run` prints it."""
    return Group(
        heading(snapshot),
        Text(),
        VmaTable(ordered(snapshot.vmas, "faults"), snapshot.totals, snapshot.effort),
        Text(),
        sentences(snapshot),
        *notes(snapshot),
    )


def interval(snapshot: Snapshot, sort: str, rows: int | None) -> RenderableType:
    """One interval, as `top` shows it: at most *rows* mappings, the totals of all."""
    shown = ordered(snapshot.vmas, sort)[:rows]
    hidden = len(snapshot.vmas) - len(shown)
    table = VmaTable(shown, snapshot.totals, snapshot.effort, hidden)
    said = [heading(snapshot), *notes(snapshot)]
    for line in said:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(said[0], table, *said[1:], Text())
