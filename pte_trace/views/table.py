"""The table of mappings: a line each, and their totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from pte_trace.effort import Effort
from pte_trace.records import OUTCOMES, Counts
from pte_trace.snapshot import VmaRow
from pte_trace.views.printable import printable

_OUTCOME_HEADINGS = {
    "wp_reuse": "REUSE",
    "wp_copy": "COPY",
    "wp_shared": "SHARED",
    "wp_uffd": "UFFD",
    "other": "OTHER",
    "error": "ERROR",
}
_COLUMNS = (
    *("PID", "COMM", "RANGE", "PERM", "MAPPING"),
    *("CHANGES", "PTES", "WRITABLE", "READONLY", "FAULTS", *_OUTCOME_HEADINGS.values(), "EFFICACY"),
)
_LEFT_OUT_FIRST = (
    *("RANGE", "PERM", "ERROR", "UFFD", "SHARED", "CHANGES", "OTHER", "READONLY", "PTES", "COMM"),
    *("COPY", "EFFICACY", "PID", "REUSE", "WRITABLE", "MAPPING"),
)
_ALIGNED_LEFT = ("COMM", "RANGE", "PERM", "MAPPING")
_BETWEEN_COLUMNS = 2
_NARROWEST_MAPPING = 12
_UNKNOWN = Text("?", style="dim")
_AT_LEAST = "≥"
_LEGEND = f"{_AT_LEAST} at least: not every PTE that was changed there was inspected."


class VmaTable:
    """A line per mapping, and the totals of all, also of the *hidden* ones not shown.

    Where it is too wide for the terminal columns are left out and long names cut, never a number.
    What is known in part only is marked, and a line below says so.
    """

    def __init__(
        self, rows: Iterable[VmaRow], totals: Counts, effort: Effort, hidden: int = 0
    ) -> None:
        label = f"total ({hidden:,} more)" if hidden else "total"
        self._lines = [_line(row, effort) for row in rows]
        self._lines.append({"MAPPING": Text(label, style="bold"), **_numbers(totals, effort)})
        self.has_legend = _in_part(totals)
        self._narrowest_mapping = max(_NARROWEST_MAPPING, len(label))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = {heading: self._width(heading) for heading in _COLUMNS}
        widths["MAPPING"] = min(widths["MAPPING"], self._narrowest_mapping)
        shown = list(_COLUMNS)
        for heading in _LEFT_OUT_FIRST:
            if _width_of(shown, widths) <= options.max_width:
                break
            shown.remove(heading)
        spare = max(0, options.max_width - _width_of(shown, widths))
        yield self._table(shown, widths["MAPPING"] + spare)
        if self.has_legend:
            yield Text(_LEGEND, style="yellow", no_wrap=True, overflow="ellipsis")

    def _width(self, heading: str) -> int:
        cells = (line[heading].cell_len for line in self._lines if heading in line)
        return max((len(heading), *cells))

    def _table(self, shown: list[str], mapping_width: int) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading in shown:
            table.add_column(
                heading,
                justify="left" if heading in _ALIGNED_LEFT else "right",
                no_wrap=True,
                max_width=mapping_width if heading == "MAPPING" else None,
            )
        for line in self._lines:
            table.add_row(*(line.get(heading, Text()) for heading in shown))
        return table


def _width_of(shown: list[str], widths: Mapping[str, int]) -> int:
    return sum(widths[heading] for heading in shown) + _BETWEEN_COLUMNS * (len(shown) - 1)


def _line(vma: VmaRow, effort: Effort) -> dict[str, Text]:
    return {
        "PID": Text(str(vma.pid)),
        "COMM": Text(printable(vma.comm)),
        "RANGE": Text(f"{vma.start:x}-{vma.end:x}"),
        "PERM": Text(vma.perms),
        "MAPPING": Text(printable(vma.name)),
        **_numbers(vma.counts, effort),
    }


def _numbers(counts: Counts, effort: Effort) -> dict[str, Text]:
    """The cells of the columns that count."""
    outcomes = zip(OUTCOMES, counts.write_faults, strict=True)
    return {
        "CHANGES": _number(sum(counts.changes)),
        "PTES": _number(sum(counts.ptes_changed)),
        "FAULTS": _number(sum(counts.write_faults)),
        **{_OUTCOME_HEADINGS[name]: _number(faults) for name, faults in outcomes},
        **_inspected(counts, effort),
    }


def _inspected(counts: Counts, effort: Effort) -> dict[str, Text]:
    """Those that rest on the PTEs inspected."""
    if not effort.inspects:
        return dict.fromkeys(("WRITABLE", "READONLY", "EFFICACY"), _UNKNOWN)
    numbers = {"WRITABLE": sum(counts.made_writable), "READONLY": sum(counts.left_readonly)}
    if not _in_part(counts):
        shown = {heading: _number(number) for heading, number in numbers.items()}
        return {**shown, "EFFICACY": _share(counts.efficacy)}
    shown = {heading: Text(f"{_AT_LEAST}{number:,}") for heading, number in numbers.items()}
    share = counts.efficacy
    return {**shown, "EFFICACY": _UNKNOWN if share is None else Text(f"{_AT_LEAST}{share:.1%}")}


def _in_part(counts: Counts) -> bool:
    return any(counts.not_inspected)


def _number(value: int) -> Text:
    return Text(f"{value:,}" if value else "-", style="" if value else "dim")


def _share(value: float | None) -> Text:
    return Text("-", style="dim") if value is None else Text(f"{value:.1%}")
