"""Charts of the last hour as SVG, for the page. Words stand beside them, in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Chart:
    """``now`` and ``most`` are shown beside it."""

    name: str
    title: str
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
    return [
        _efficacy(shares, times[-1]),
        _faults(times, rates),
        Chart(
            "writable",
            "PTEs made writable, a second",
            _rate(made[-1]),
            _rate(max(made)),
            (Shape("made", _area(times, [0.0] * len(made), made, max(made))),),
        ),
    ]


def _efficacy(shares: Sequence[tuple[float, float]], now_s: float) -> Chart:
    points = " ".join(_point(time, now_s, share, 1.0) for time, share in shares)
    now = f"{shares[-1][1]:.1%}" if shares else "-"
    return Chart("share", "Efficacy", now, "100%", (Shape("share", points, is_area=False),))


def _faults(times: Sequence[float], rates: Sequence[tuple[float, ...]]) -> Chart:
    sums = [sum(each) for each in rates]
    most = max(sums)
    shapes, below = [], [0.0] * len(rates)
    shown = []
    for place, outcome in enumerate(OUTCOMES):
        above = [base + each[place] for base, each in zip(below, rates, strict=True)]
        if above != below:
            shapes.append(Shape(outcome, _area(times, below, above, most)))
            shown.append(outcome)
        below = above
    title = "Write faults a second"
    return Chart("faults", title, _rate(sums[-1]), _rate(most), tuple(shapes), tuple(shown))


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
    times: Sequence[float], below: Sequence[float], above: Sequence[float], most: float
) -> str:
    return " ".join((*_line(times, above, most), *reversed(list(_line(times, below, most)))))


def _line(times: Sequence[float], values: Sequence[float], most: float) -> Iterable[str]:
    return [_point(time, times[-1], each, most) for time, each in zip(times, values, strict=True)]


def _point(time_s: float, now_s: float, value: float, most: float) -> str:
    x = WIDTH * (1 - (now_s - time_s) / HOUR_S)
    y = HEIGHT * (1 - (value / most if most else 0))
    return f"{x:.1f},{y:.1f}"
