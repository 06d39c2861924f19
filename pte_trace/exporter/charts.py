"""Charts of the last hour as SVG, for the page. Words stand beside them, in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pte_trace.counted.counters import OUTCOMES
from pte_trace.exporter.history import HOUR_S, Span

WIDTH, HEIGHT = 600, 120
# More would be drawn on top of each other.
_POINTS = 180


@dataclass(frozen=True)
class Shape:
    """``style`` is its class, ``points`` those of an SVG polygon or polyline."""

    style: str
    points: str
    is_area: bool = True


class _Scale(NamedTuple):
    """An hour, or what there is of it."""

    began_s: float
    now_s: float

    def x(self, time_s: float) -> float:
        return WIDTH * (time_s - self.began_s) / (self.now_s - self.began_s)


@dataclass(frozen=True)
class Chart:
    """``now`` and ``most`` are shown beside it, ``began`` at its left."""

    name: str
    title: str
    began: str
    now: str
    most: str
    shapes: tuple[Shape, ...]
    legend: tuple[str, ...] = ()


def of(spans: Sequence[Span]) -> list[Chart]:
    """Nothing before there are two points."""
    drawn = _fewer(spans)
    if not drawn:
        return []
    rates = [tuple(number / each.duration_s for number in each.faults) for each in drawn]
    made = [each.made_writable / each.duration_s for each in drawn]
    times = [each.end_s for each in drawn]
    shares = [(each.end_s, each.efficacy) for each in drawn if each.efficacy is not None]
    scale = _Scale(max(times[0] - drawn[0].duration_s, times[-1] - HOUR_S), times[-1])
    return [
        _efficacy(scale, shares),
        _faults(scale, times, rates),
        Chart(
            "writable",
            "PTEs made writable, a second",
            _ago(scale),
            _rate(made[-1]),
            _rate(max(made)),
            (Shape("made", _area(scale, times, [0.0] * len(made), made, max(made))),),
        ),
    ]


def _ago(scale: _Scale) -> str:
    seconds = scale.now_s - scale.began_s
    if seconds >= HOUR_S:
        return "1 h ago"
    return f"{seconds / 60:.0f} min ago" if seconds >= 120 else f"{seconds:.0f} s ago"


def _efficacy(scale: _Scale, shares: Sequence[tuple[float, float]]) -> Chart:
    points = " ".join(_point(scale, time, share, 1.0) for time, share in shares)
    now = f"{shares[-1][1]:.1%}" if shares else "-"
    line = Shape("share", points, is_area=False)
    return Chart("share", "Efficacy", _ago(scale), now, "100%", (line,))


def _faults(scale: _Scale, times: Sequence[float], rates: Sequence[tuple[float, ...]]) -> Chart:
    sums = [sum(each) for each in rates]
    most = max(sums)
    shapes, below = [], [0.0] * len(rates)
    shown = []
    for place, outcome in enumerate(OUTCOMES):
        above = [base + each[place] for base, each in zip(below, rates, strict=True)]
        if above != below:
            shapes.append(Shape(outcome, _area(scale, times, below, above, most)))
            shown.append(outcome)
        below = above
    title = "Write faults a second"
    now = _rate(sums[-1])
    return Chart("faults", title, _ago(scale), now, _rate(most), tuple(shapes), tuple(shown))


def _fewer(spans: Sequence[Span]) -> list[Span]:
    """Some of them put together, from the latest back."""
    together = max(1, -(-len(spans) // _POINTS))
    ends = range(len(spans), 0, -together)
    return [_sum(spans[max(0, end - together) : end]) for end in reversed(ends)]


def _sum(spans: Sequence[Span]) -> Span:
    return Span(
        spans[-1].end_s,
        sum(each.duration_s for each in spans),
        tuple(map(sum, zip(*(each.faults for each in spans), strict=True))),
        sum(each.made_writable for each in spans),
        sum(each.avoidable for each in spans),
    )


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 or number == 0 else f"{number:,.1f}"


def _area(
    scale: _Scale,
    times: Sequence[float],
    below: Sequence[float],
    above: Sequence[float],
    most: float,
) -> str:
    return " ".join(
        (*_line(scale, times, above, most), *reversed(_line(scale, times, below, most)))
    )


def _line(
    scale: _Scale, times: Sequence[float], values: Sequence[float], most: float
) -> Sequence[str]:
    """Each value holds from the time before it on, so the first one from where it began."""
    first = _point(scale, scale.began_s, values[0], most)
    points = (_point(scale, time, each, most) for time, each in zip(times, values, strict=True))
    return [first, *points]


def _point(scale: _Scale, time_s: float, value: float, most: float) -> str:
    y = HEIGHT * (1 - (value / most if most else 0))
    return f"{scale.x(time_s):.1f},{y:.1f}"
