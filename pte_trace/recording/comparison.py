"""Recordings side by side: what differs, by how much, and whether that says anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median

from pte_trace.recording.metadata import Metadata
from pte_trace.recording.summary import Run, Summary
from pte_trace.records import OUTCOMES, REASONS, Histogram

FEWEST_RUNS = 3


class Unit(Enum):
    """What a metric is counted in."""

    COUNT = "count"
    SECONDS = "seconds"
    SHARE = "share"


class Basis(Enum):
    """What a metric rests on: where that differs, it cannot be compared."""

    FAULTS = "faults"
    CHANGES = "changes"
    INSPECTION = "inspection"
    COSTS = "costs"
    TIME = "time"


@dataclass(frozen=True)
class Subject:
    """One recording."""

    name: str
    metadata: Metadata
    summary: Summary
    ended: bool


@dataclass(frozen=True)
class Metric:
    """A number of each run; None where the run does not tell it."""

    name: str
    unit: Unit
    bases: frozenset[Basis]
    of: Callable[[Run], float | None]


@dataclass(frozen=True)
class Sample:
    """One metric of the runs of one recording; empty where it is not known."""

    values: tuple[float, ...]

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None

    @property
    def spread(self) -> tuple[float, float] | None:
        """From the least to the most."""
        return (min(self.values), max(self.values)) if self.values else None


class Judgement(Enum):
    """What a difference says."""

    SAME = "the same"
    WITHIN = "within the noise"
    BEYOND = "beyond the noise"
    TOO_FEW = "too few runs to tell"
    UNKNOWN = "not known"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Difference:
    """Of the medians, to those of the first recording. ``ratio`` is None where that is 0."""

    difference: float | None
    ratio: float | None
    judgement: Judgement


@dataclass(frozen=True)
class Line:
    """One metric: a sample of each recording, a difference of each but the first."""

    metric: Metric
    samples: tuple[Sample, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """``apart``: what any of them cannot be compared in. ``reservations``: why, by its place."""

    subjects: tuple[Subject, ...]
    lines: tuple[Line, ...]
    apart: frozenset[Basis]
    reservations: Mapping[int, Sequence[str]]


def _mean(cost: Histogram) -> float | None:
    return None if cost.mean is None else cost.mean / 1e9


def _metrics() -> Iterator[Metric]:
    faults, changes = frozenset({Basis.FAULTS}), frozenset({Basis.CHANGES})
    inspected = changes | {Basis.INSPECTION}
    yield Metric("duration", Unit.SECONDS, frozenset({Basis.TIME}), lambda run: run.duration_s)
    yield Metric("write faults", Unit.COUNT, faults, lambda run: sum(run.counts.write_faults))
    for place, outcome in enumerate(OUTCOMES):
        yield Metric(outcome, Unit.COUNT, faults, lambda run, n=place: run.counts.write_faults[n])  # type: ignore[misc]
    yield Metric("protection changes", Unit.COUNT, changes, lambda run: sum(run.counts.changes))
    yield Metric("PTEs changed", Unit.COUNT, changes, lambda run: sum(run.counts.ptes_changed))
    yield Metric(
        "PTEs made writable", Unit.COUNT, inspected, lambda run: sum(run.counts.made_writable)
    )
    yield Metric(
        "PTEs left read-only", Unit.COUNT, inspected, lambda run: sum(run.counts.left_readonly)
    )
    for place, reason in enumerate(REASONS):
        name = f"left read-only: {reason}"
        yield Metric(name, Unit.COUNT, inspected, lambda run, n=place: run.counts.left_readonly[n])  # type: ignore[misc]
    yield Metric("efficacy", Unit.SHARE, inspected | faults, lambda run: run.counts.efficacy)
    costs = faults | {Basis.TIME}
    yield Metric(
        "mean wp_reuse fault", Unit.SECONDS, costs, lambda run: _mean(run.counts.reuse_cost)
    )
    yield Metric(
        "time in write faults",
        Unit.SECONDS,
        costs | {Basis.COSTS},
        lambda run: sum(cost.sum for cost in run.counts.costs) / 1e9,
    )


METRICS = tuple(_metrics())
# Where another function stands in: for change_pte_range one that finds the same, but slower.
_HOOK_BASES = {
    "change_pte_range": Basis.TIME,
    "change_protection": Basis.CHANGES,
    "do_wp_page": Basis.FAULTS,
    "handle_mm_fault": Basis.FAULTS,
}
_ALL = frozenset(Basis)


def compare(subjects: Sequence[Subject]) -> Comparison:
    """Compare each of *subjects* with the first."""
    first = subjects[0]
    apart = [_apart(first, other) for other in subjects[1:]]
    lines = []
    for metric in METRICS:
        samples = tuple(_sample(metric, subject) for subject in subjects)
        if not any(any(sample.values) for sample in samples):
            continue
        differences = tuple(
            _difference(samples[0], sample, apart=any(bases & metric.bases for bases, _ in found))
            for sample, found in zip(samples[1:], apart, strict=True)
        )
        lines.append(Line(metric, samples, differences))
    return Comparison(
        tuple(subjects),
        tuple(lines),
        frozenset(basis for found in apart for bases, _ in found for basis in bases),
        {place: [why for _, why in found] for place, found in enumerate(apart, 1) if found},
    )


def _sample(metric: Metric, subject: Subject) -> Sample:
    effort = subject.metadata.effort
    known = (effort.inspects or Basis.INSPECTION not in metric.bases) and (
        effort.costs == 1 or Basis.COSTS not in metric.bases
    )
    values = (metric.of(run) for run in subject.summary.runs) if known else ()
    return Sample(tuple(value for value in values if value is not None))


def _difference(base: Sample, other: Sample, *, apart: bool) -> Difference:
    if base.median is None or other.median is None:
        return Difference(None, None, Judgement.UNKNOWN)
    if apart:
        return Difference(None, None, Judgement.NOT_COMPARABLE)
    return Difference(
        other.median - base.median,
        other.median / base.median if base.median else None,
        _judgement(base, other),
    )


def _judgement(base: Sample, other: Sample) -> Judgement:
    """Runs that do not reach into each other's spread differ beyond the noise.

    Were both of one kind, that would happen by chance in one of ten comparisons of three runs
    each, one of 126 of five.
    """
    if set(base.values) == set(other.values) and len(set(base.values)) == 1:
        return Judgement.SAME
    if min(len(base.values), len(other.values)) < FEWEST_RUNS:
        return Judgement.TOO_FEW
    apart = max(base.values) < min(other.values) or max(other.values) < min(base.values)
    return Judgement.BEYOND if apart else Judgement.WITHIN


def _apart(first: Subject, other: Subject) -> list[tuple[frozenset[Basis], str]]:
    """What rules comparing the two out, and for what."""
    found: list[tuple[frozenset[Basis], str]] = []
    one, two = first.metadata, other.metadata
    if one.effort.inspect != two.effort.inspect:
        said = f"{_extent(one.effort.inspect)} and {_extent(two.effort.inspect)} were inspected"
        found.append((frozenset({Basis.INSPECTION, Basis.TIME}), f"Different inspection: {said}."))
    if one.effort.costs != two.effort.costs:
        said = f"{_share(one.effort.costs)} and {_share(two.effort.costs)}"
        found.append((frozenset({Basis.COSTS, Basis.TIME}), f"Different faults timed: {said}."))
    if _filters(one) != _filters(two):
        said = " and ".join(_said(_filters(each)) for each in (one, two))
        found.append((_ALL, f"Different filters: {said}."))
    found += _hooks(one, two)
    for subject in (first, other):
        health = subject.summary.whole.health
        if health.map_full or health.missed_runs:
            found.append((_ALL - {Basis.TIME}, f"Events were lost in {subject.name}."))
    return found


def _extent(inspect: int | None) -> str:
    return {None: "all page tables", 0: "none"}.get(inspect, f"{inspect} page tables a change")


def _share(costs: int) -> str:
    return {1: "all", 0: "none"}.get(costs, f"one of {costs:,}")


def _filters(metadata: Metadata) -> dict[str, str]:
    """A PID names another process each time: what counts is whether there was one."""
    given = metadata.options
    filters = {name: given[name] for name in ("comm", "cgroup") if given.get(name)}
    return {**filters, "pid": "some"} if given.get("pids") else filters


def _said(filters: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in filters.items()) or "none"


def _hooks(one: Metadata, two: Metadata) -> Iterator[tuple[frozenset[Basis], str]]:
    for hook, basis in _HOOK_BASES.items():
        here, there = one.hooks[hook], two.hooks[hook]
        if here.function != there.function:
            yield (
                frozenset({basis, Basis.TIME}),
                f"Different hooks: {hook} is attached to {here.function} and to {there.function}.",
            )
        elif here.how is not there.how:
            yield (
                frozenset({Basis.TIME}),
                f"Different hooks: {hook} by {here.how.value} and by {there.how.value}, which"
                " takes a different time.",
            )
