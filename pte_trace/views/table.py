"""The table of mappings: a line each, and their totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from pte_trace.counted.counters import FAMILIES, PTES_NOT_INSPECTED, Family, Value
from pte_trace.counted.counts import Counts
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.where import short
from pte_trace.effort import Effort
from pte_trace.views.printable import printable


def _told_apart(family: Family) -> list[Value]:
    """The values of its label that have a column each."""
    return [value for value in family.label.values if value.heading] if family.label else []


_COUNTED = tuple(
    heading
    for family in FAMILIES
    if family.heading
    for heading in (family.heading, *(value.heading for value in _told_apart(family)))
)
_WHERE = "WHERE"
_COLUMNS = ("PID", "COMM", _WHERE, "RANGE", "PERM", "MAPPING", *_COUNTED, "EFFICACY")
# Shown where there is anything to show.
_SELDOM = ("HUGE", "HUGE RO", "SPLIT", "TRACKED", "MISSING", "FORKED")
# What is not named here goes after these.
_LEFT_OUT_FIRST = (
    *(
        "FORKED",
        "MISSING",
        "TRACKED",
        "SPLIT",
        "HUGE RO",
        "RANGE",
        "PERM",
        _WHERE,
        "ERROR",
        "UFFD",
        "SHARED",
        "CHANGES",
        "OTHER",
        "READONLY",
        "PTES",
        "COMM",
        "HUGE",
    ),
)
_LEFT_OUT_LAST = ("COPY", "EFFICACY", "PID", "REUSE", "WRITABLE", "MAPPING", "FAULTS")
_ALIGNED_LEFT = ("COMM", _WHERE, "RANGE", "PERM", "MAPPING")
_WIDEST_WHERE = 32
_BETWEEN_COLUMNS = 2
_NARROWEST_MAPPING = 12
_UNKNOWN = Text("?", style="dim")
_NONE = "-"
_NO_NUMBER = (_NONE, _UNKNOWN.plain)
_AT_LEAST = "≥"
_LEGEND = f"{_AT_LEAST} at least: not every PTE that was changed there was inspected."


class VmaTable:
    """A line per mapping, and the totals of all, also of the *hidden* ones not shown.

    Where a process belongs is a column if not all that are shown belong to one cgroup.

    Where it is too wide for the terminal columns are left out and long names cut, never a number.
    What is known in part only is marked, and a line below says so.
    """

    def __init__(
        self, rows: Iterable[VmaRow], totals: Counts, effort: Effort, hidden: int = 0
    ) -> None:
        label = f"total ({hidden:,} more)" if hidden else "total"
        given = list(rows)
        self._lines = [_line(row, effort) for row in given]
        self._lines.append({"MAPPING": Text(label, style="bold"), **_numbers(totals, effort)})
        left_out = {each for each in _SELDOM if not self._has(each)}
        if len({row.cgroup for row in given}) <= 1:
            left_out.add(_WHERE)
        self._columns = [each for each in _COLUMNS if each not in left_out]
        self.has_legend = _in_part(totals)
        self._narrowest_mapping = max(_NARROWEST_MAPPING, len(label))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = {heading: self._width(heading) for heading in self._columns}
        widths["MAPPING"] = min(widths["MAPPING"], self._narrowest_mapping)
        shown = list(self._columns)
        for heading in filter(self._columns.__contains__, _left_out()):
            if _width_of(shown, widths) <= options.max_width:
                break
            shown.remove(heading)
        spare = max(0, options.max_width - _width_of(shown, widths))
        yield self._table(shown, widths["MAPPING"] + spare)
        if self.has_legend:
            yield Text(_LEGEND, style="yellow", no_wrap=True, overflow="ellipsis")

    def _has(self, heading: str) -> bool:
        """Whether the last line, of all mappings, has a number there."""
        return self._lines[-1][heading].plain.lstrip(_AT_LEAST) not in ("0", *_NO_NUMBER)

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


def _left_out() -> Iterator[str]:
    """In which order columns are left out; FAULTS stays."""
    others = (heading for heading in _COUNTED if heading not in _LEFT_OUT_FIRST + _LEFT_OUT_LAST)
    yield from (*_LEFT_OUT_FIRST, *others, *_LEFT_OUT_LAST[:-1])


def _width_of(shown: list[str], widths: Mapping[str, int]) -> int:
    return sum(widths[heading] for heading in shown) + _BETWEEN_COLUMNS * (len(shown) - 1)


def _line(vma: VmaRow, effort: Effort) -> dict[str, Text]:
    return {
        "PID": Text(str(vma.pid)),
        "COMM": Text(printable(vma.comm)),
        _WHERE: _where(vma.cgroup),
        "RANGE": Text(f"{vma.start:x}-{vma.end:x}"),
        "PERM": Text(vma.perms),
        "MAPPING": Text(printable(vma.name)),
        **_numbers(vma.counts, effort),
    }


def _where(cgroup: str) -> Text:
    if not cgroup:
        return _UNKNOWN
    shown = Text(printable(short(cgroup)))
    shown.truncate(_WIDEST_WHERE, overflow="ellipsis")
    return shown


def _numbers(counts: Counts, effort: Effort) -> dict[str, Text]:
    """The cells of the columns that count."""
    cells = {}
    for family in FAMILIES:
        if family.heading:
            cells[family.heading] = _sum(counts, family, effort)
        for value in _told_apart(family):
            cells[value.heading] = _number(counts.one(family, value.name))
    return {**cells, "EFFICACY": _efficacy(counts, effort)}


def _sum(counts: Counts, family: Family, effort: Effort) -> Text:
    if not family.inspected:
        return _number(counts.sum(family))
    if not effort.inspects:
        return _UNKNOWN
    if _in_part(counts):
        return Text(f"{_AT_LEAST}{counts.sum(family):,}")
    return _number(counts.sum(family))


def _efficacy(counts: Counts, effort: Effort) -> Text:
    share = counts.efficacy
    if not effort.inspects:
        return _UNKNOWN
    if _in_part(counts):
        return _UNKNOWN if share is None else Text(f"{_AT_LEAST}{share:.1%}")
    return Text(_NONE, style="dim") if share is None else Text(f"{share:.1%}")


def _in_part(counts: Counts) -> bool:
    return any(counts[PTES_NOT_INSPECTED])


def _number(value: int) -> Text:
    return Text(f"{value:,}" if value else _NONE, style="" if value else "dim")
