"""Recordings side by side: for a terminal, as JSON, as CSV, as a page."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from string import ascii_uppercase
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pte_trace.counted.flames import Path, tree
from pte_trace.recording import noise
from pte_trace.recording.comparison import (
    FEWEST_ALIKE,
    Comparison,
    Difference,
    Judgement,
    Line,
    Sample,
    Subject,
    Unit,
)
from pte_trace.views import recorded, sentences
from pte_trace.views.printable import cell, printable

_STYLES = {
    Judgement.BEYOND: "bold",
    Judgement.NOT_COMPARABLE: "yellow",
    Judgement.TOO_FEW: "dim",
    Judgement.UNKNOWN: "dim",
}
_SAYS = "says"
_MOST_STACKS = 10


def letter(place: int) -> str:
    return ascii_uppercase[place]


def subject(place: int, of: Subject) -> str:
    """What a letter stands for, and what the optimization did there."""
    said = recorded.heading(of.metadata, of.summary)
    kernel = sentences.heading(of.summary.whole).plain
    summary = sentences.summary(of.summary.whole).plain
    return f"{letter(place)}: {printable(of.name)}. {said} {kernel}. {summary}"


def rule(comparison: Comparison) -> list[str]:
    """What `beyond the noise` says, and how often it was asked."""
    said = (
        "Beyond the noise: where two recordings are alike, their runs lie so far apart in"
        f" {noise.ALPHA:.0%} of all cases at most (Mann-Whitney U test, two-sided; {noise.FEWEST}"
        f" runs of each are enough to tell). So is a number that is the same in all runs of each,"
        f" {FEWEST_ALIKE} at least, and another in the other."
    )
    lines = [said]
    if comparison.tested:
        lines.append(
            f"{sentences.several(comparison.tested, 'difference')} tested, each by itself: were"
            f" there none, chance would have {comparison.tested * noise.ALPHA:.2g} of them beyond"
            " the noise on average, at most."
        )
    if comparison.per_second:
        lines.append("Without a command, what grows with time is compared by the second.")
    return lines


def reservations(comparison: Comparison) -> list[str]:
    """What a reader must know: what cannot be compared and why, and what each recording notes."""
    lines = [
        f"A and {letter(place)}{' cannot be compared in all.' if each.apart else ':'}"
        f" {printable(each.why)}"
        for place, found in comparison.reservations.items()
        for each in found
    ]
    for place, of in enumerate(comparison.subjects):
        if of.cut_short:
            lines.append(f"{letter(place)}: Its last run was cut short and is left out here.")
        lines += [
            f"{letter(place)}: {note.plain}"
            for note in recorded.notes(of.metadata, of.summary, ended=of.ended)
        ]
    return lines


def number(value: float | None, unit: Unit) -> str:
    if value is None:
        return "-"
    if unit is Unit.SHARE:
        return f"{value:.1%}"
    if unit is Unit.RATE:
        return f"{value:,.0f}/s" if abs(value) >= 100 else f"{value:.3g}/s"
    if unit is Unit.SECONDS:
        return f"-{sentences.duration(-value)}" if value < 0 else sentences.duration(value)
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _sample(sample: Sample, unit: Unit) -> str:
    """The median, and from where to where the runs reach if there are several."""
    if not sample.values:
        return "?"
    least, most = sample.spread or (0, 0)
    shown = number(sample.median, unit)
    return shown if least == most else f"{shown} ({number(least, unit)} to {number(most, unit)})"


def _change(difference: Difference, unit: Unit) -> str:
    change = difference.difference
    if change is None:
        return "-"
    sign = "+" if change > 0 else ""
    if unit is Unit.SHARE:
        return f"{sign}{100 * change:.1f} points"
    return f"{sign}{number(change, unit)}"


def _ratio(difference: Difference) -> str:
    return "-" if difference.ratio is None else f"{difference.ratio:.3g}×"


def heads(comparison: Comparison) -> list[str]:
    heads = ["median of the runs (least to most)"]
    for place in range(len(comparison.subjects)):
        name = letter(place)
        heads += [name, f"{name} - A", f"{name} / A", _SAYS] if place else [name]
    return heads


def cells(line: Line) -> list[str]:
    unit = line.metric.unit
    found = [line.metric.name, _sample(line.samples[0], unit)]
    for sample, difference in zip(line.samples[1:], line.differences, strict=True):
        found += [
            _sample(sample, unit),
            _change(difference, unit),
            _ratio(difference),
            difference.judgement.value,
        ]
    return found


def text(comparison: Comparison) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, head in enumerate(heads(comparison)):
        left = place == 0 or head == _SAYS
        table.add_column(head, justify="left" if left else "right")
    for line in comparison.lines:
        judged = {
            difference.judgement.value: difference.judgement for difference in line.differences
        }
        table.add_row(
            *(
                Text(cell, style=_STYLES.get(judged.get(cell, Judgement.SAME), ""))
                for cell in cells(line)
            )
        )
    return Group(
        *(Text(subject(place, of)) for place, of in enumerate(comparison.subjects)),
        Text(),
        table,
        Text(),
        *(Text(line, style="dim") for line in rule(comparison)),
        *(Text(line) for line in stacks(comparison)),
        *(Text(line, style="yellow") for line in reservations(comparison)),
    )


def _per(comparison: Comparison) -> str:
    return "a second" if comparison.per_second else "a run"


def stacks(comparison: Comparison) -> Iterator[str]:
    """The paths of write faults that differ most."""
    for place, paths in comparison.stacks.items():
        differing = [(path, numbers) for path, numbers in paths.items() if numbers[0] != numbers[1]]
        differing.sort(key=lambda each: -abs(each[1][1] - each[1][0]))
        if not differing:
            continue
        yield f"Stacks that differ most, A and {letter(place)}, write faults {_per(comparison)}:"
        for path, (one, other) in differing[:_MOST_STACKS]:
            comm, *frames = map(printable, path)
            said = " < ".join((frames[-1], *reversed(frames[:-1]), comm))
            yield f"  {one:,.4g} to {other:,.4g} ({other - one:+,.4g})  {said}"


def _stack(path: Path, numbers: tuple[float, ...]) -> dict[str, Any]:
    one, other = numbers
    comm, *frames, happened = path
    return {
        "comm": comm,
        "functions": frames[::-1],
        "what": happened,
        "write_faults": [one, other],
        "difference": other - one,
    }


def document(comparison: Comparison) -> dict[str, Any]:
    """Counts, seconds and shares; what is not known is null."""
    return {
        "recordings": [
            {"file": of.name, "ended": of.ended, **of.metadata.document()}
            for of in comparison.subjects
        ],
        "reservations": [
            {"recording": place, "why": [each.why for each in found]}
            for place, found in comparison.reservations.items()
        ],
        "noise": {
            "test": "Mann-Whitney U, two-sided",
            "alpha": noise.ALPHA,
            "tested": comparison.tested,
        },
        "metrics": [
            {
                "name": line.metric.name,
                "unit": line.metric.unit.value,
                "recordings": [
                    {"runs": list(sample.values), "median": sample.median}
                    for sample in line.samples
                ],
                "differences": [
                    {
                        "difference": each.difference,
                        "ratio": each.ratio,
                        "judgement": each.judgement.value,
                        "p": each.p,
                    }
                    for each in line.differences
                ],
            }
            for line in comparison.lines
        ],
        "stacks": [
            {
                "recording": place,
                "per": "second" if comparison.per_second else "run",
                "paths": [_stack(*each) for each in paths.items()],
            }
            for place, paths in comparison.stacks.items()
        ],
    }


def _flat(comparison: Comparison) -> Iterator[list[object]]:
    for line in comparison.lines:
        for place, sample in enumerate(line.samples):
            least, most = sample.spread or (None, None)
            row: list[object] = [line.metric.name, line.metric.unit.value]
            row += [cell(comparison.subjects[place].name), len(sample.values)]
            row += [sample.median, least, most]
            if place:
                difference = line.differences[place - 1]
                row += [difference.difference, difference.ratio, difference.judgement.value]
                row += [difference.p]
            else:
                row += [None] * 4
            yield row


def write_csv(comparison: Comparison, stream: IO[str]) -> None:
    """A line for each metric and recording; differences and ratios are to the first one."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *("metric", "unit", "file", "runs", "median", "least", "most"),
            *("difference", "ratio", "judgement", "p"),
        ]
    )
    writer.writerows(_flat(comparison))


def _flame_graphs(comparison: Comparison) -> Iterator[str]:
    from pte_trace.views import flames

    for place, paths in comparison.stacks.items():
        if paths:
            names = letter(0), letter(place)
            title = f"Who writes: {names[0]} and {names[1]}"
            yield flames.difference(title, tree(paths, flames.LEAST), names, _per(comparison))


def page(comparison: Comparison) -> str:
    """One self-contained page."""
    from pte_trace.views import comparison_plots, page

    names = " and ".join(printable(subject.name) for subject in comparison.subjects)
    return page.page(
        f"pte-trace: {names} compared",
        [
            page.paragraphs(subject(place, of) for place, of in enumerate(comparison.subjects)),
            page.notes(reservations(comparison)),
            page.table(
                "Side by side", heads(comparison), map(cells, comparison.lines), words=[_SAYS]
            ),
            page.paragraphs(rule(comparison)),
            page.flame_graphs([*_flame_graphs(comparison)]),
            page.plot_grid(comparison_plots.of_comparison(comparison)),
        ],
    )
