"""Recordings side by side: what differs, by how much, and whether that says anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import chain
from statistics import median

from pte_trace.counted.counters import (
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    WRITE_FAULTS,
    Family,
)
from pte_trace.counted.counts import Histogram
from pte_trace.counted.flames import Path, faults
from pte_trace.recording import noise
from pte_trace.recording.metadata import Metadata
from pte_trace.recording.summary import Run, Summary

# Numbers that are the same in so many runs have no noise.
FEWEST_ALIKE = 3


class Unit(Enum):
    """What a metric is counted in."""

    COUNT = "count"
    RATE = "per second"
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

    @property
    def cut_short(self) -> bool:
        """Whether its recorder was killed in the middle of a run of the command."""
        return bool(self.metadata.command) and not self.ended

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those that are whole."""
        return self.summary.runs[:-1] if self.cut_short else self.summary.runs


@dataclass(frozen=True)
class Metric:
    """A number of each run; None where the run does not tell it.

    One that ``grows`` is the larger the longer is recorded.
    """

    name: str
    unit: Unit
    bases: frozenset[Basis]
    of: Callable[[Run], float | None]
    grows: bool = True

    def per_second(self) -> Metric:
        """What can be compared where how long was recorded says nothing."""
        if not self.grows:
            return self
        unit = Unit.RATE if self.unit is Unit.COUNT else Unit.SHARE
        return replace(self, unit=unit, of=lambda run: _rate(self.of(run), run.duration_s))


def _rate(number: float | None, seconds: float) -> float | None:
    return number / seconds if number is not None and seconds else None


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
    """Of the medians, to those of the first recording. ``ratio`` is None where that is 0.

    ``p``: how likely it is where the two are alike; None where that was not asked.
    """

    difference: float | None
    ratio: float | None
    judgement: Judgement
    p: float | None = None


@dataclass(frozen=True)
class Line:
    """One metric: a sample of each recording, a difference of each but the first."""

    metric: Metric
    samples: tuple[Sample, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Reservation:
    """In what two recordings differ, and what cannot be compared therefore, if anything."""

    why: str
    apart: frozenset[Basis] = frozenset()


@dataclass(frozen=True)
class Comparison:
    """``reservations``: to comparing the recording at that place with the first.

    ``per_second``: whether what grows with time is shown by the second. ``stacks``: of the
    recording at that place and the first, where both have some that can be compared, how many write
    faults came by each path, in the first one and in it: in a run on average, or by the second.
    """

    subjects: tuple[Subject, ...]
    lines: tuple[Line, ...]
    reservations: Mapping[int, Sequence[Reservation]]
    per_second: bool
    stacks: Mapping[int, Mapping[Path, tuple[float, ...]]] = field(default_factory=dict)

    @property
    def apart(self) -> frozenset[Basis]:
        """What any of them cannot be compared in."""
        every = (each for found in self.reservations.values() for each in found)
        return frozenset(basis for each in every for basis in each.apart)

    @property
    def tested(self) -> int:
        """How many differences were asked whether they are noise."""
        return sum(each.p is not None for line in self.lines for each in line.differences)


def _mean(cost: Histogram) -> float | None:
    return None if cost.mean is None else cost.mean / 1e9


def _numbers(
    family: Family, name: str, bases: frozenset[Basis], *, each: str = ""
) -> Iterator[Metric]:
    """The sum, and the number for *each* value of its label where that is to be had by a name."""
    yield Metric(name, Unit.COUNT, bases, lambda run: run.counts.sum(family))
    for value in family.names if each else ():
        yield Metric(each.format(value), Unit.COUNT, bases, partial(_one, family, value))


def _one(family: Family, value: str, run: Run) -> float:
    return run.counts.one(family, value)


def _metrics() -> Iterator[Metric]:
    faults, changes = frozenset({Basis.FAULTS}), frozenset({Basis.CHANGES})
    inspected = changes | {Basis.INSPECTION}
    time = frozenset({Basis.TIME})
    yield Metric("duration", Unit.SECONDS, time, lambda run: run.duration_s, grows=False)
    yield from _numbers(WRITE_FAULTS, "write faults", faults, each="{}")
    yield from _numbers(PROTECTION_CHANGES, "protection changes", changes)
    yield from _numbers(PTES_CHANGED, "PTEs changed", changes)
    yield from _numbers(PTES_MADE_WRITABLE, "PTEs made writable", inspected)
    yield from _numbers(
        PTES_LEFT_READONLY, "PTEs left read-only", inspected, each="left read-only: {}"
    )
    yield Metric(
        "efficacy",
        Unit.SHARE,
        inspected | faults,
        lambda run: run.counts.efficacy,
        grows=False,
    )
    costs = faults | time
    yield Metric(
        "mean wp_reuse fault",
        Unit.SECONDS,
        costs,
        lambda run: _mean(run.counts.reuse_cost),
        grows=False,
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
    per_second = not first.metadata.command
    found = [_reservations(first, other) for other in subjects[1:]]
    lines = []
    for metric in METRICS:
        metric = metric.per_second() if per_second else metric
        samples = tuple(_sample(metric, subject) for subject in subjects)
        if not any(any(sample.values) for sample in samples):
            continue
        differences = tuple(
            _difference(samples[0], sample, apart=any(each.apart & metric.bases for each in why))
            for sample, why in zip(samples[1:], found, strict=True)
        )
        lines.append(Line(metric, samples, differences))
    reservations = {place: why for place, why in enumerate(found, 1) if why}
    stacks = {
        place: _paths(first, subjects[place], per_second=per_second)
        for place, why in enumerate(found, 1)
        if _have_stacks(first, subjects[place])
        and not any(Basis.FAULTS in each.apart for each in why)
    }
    return Comparison(tuple(subjects), tuple(lines), reservations, per_second, stacks)


def _have_stacks(*subjects: Subject) -> bool:
    """A run that was cut short cannot be left out of them."""
    ratios = {subject.metadata.effort.stacks for subject in subjects}
    return len(ratios) == 1 and 0 not in ratios and not any(each.cut_short for each in subjects)


def _paths(first: Subject, other: Subject, *, per_second: bool) -> Mapping[Path, tuple[float, ...]]:
    both = [_per(subject, per_second=per_second) for subject in (first, other)]
    return {
        path: tuple(each.get(path, 0.0) for each in both) for path in dict.fromkeys(chain(*both))
    }


def _per(subject: Subject, *, per_second: bool) -> dict[Path, float]:
    whole = subject.summary.whole
    parts = whole.duration_s if per_second else len(subject.runs)
    return {path: number / parts for path, number in faults(whole).items()} if parts else {}


def _sample(metric: Metric, subject: Subject) -> Sample:
    effort = subject.metadata.effort
    known = (effort.inspects or Basis.INSPECTION not in metric.bases) and (
        effort.costs == 1 or Basis.COSTS not in metric.bases
    )
    values = (metric.of(run) for run in subject.runs) if known else ()
    return Sample(tuple(value for value in values if value is not None))


def _difference(base: Sample, other: Sample, *, apart: bool) -> Difference:
    if base.median is None or other.median is None:
        return Difference(None, None, Judgement.UNKNOWN)
    if apart:
        return Difference(None, None, Judgement.NOT_COMPARABLE)
    return Difference(
        other.median - base.median,
        other.median / base.median if base.median else None,
        *_judgement(base, other),
    )


def _judgement(base: Sample, other: Sample) -> tuple[Judgement, float | None]:
    """What was found, and the p-value where it took a test."""
    sizes = len(base.values), len(other.values)
    if len(set(base.values)) == len(set(other.values)) == 1:
        if base.values[0] == other.values[0]:
            return Judgement.SAME, None
        if min(sizes) >= FEWEST_ALIKE:
            return Judgement.BEYOND, None
    if not noise.can_tell(*sizes):
        return Judgement.TOO_FEW, None
    p = noise.p_value(base.values, other.values)
    return Judgement.BEYOND if p <= noise.ALPHA else Judgement.WITHIN, p


def _reservations(first: Subject, other: Subject) -> list[Reservation]:
    found: list[Reservation] = []
    one, two = first.metadata, other.metadata
    if bool(one.command) != bool(two.command):
        why = "One is of a command, the other of what ran meanwhile."
        found.append(Reservation(why, _ALL))
    elif one.command != two.command:
        said = " and ".join(f"`{' '.join(each.command)}`" for each in (one, two))
        found.append(Reservation(f"Different commands: {said}."))
    if one.effort.inspect != two.effort.inspect:
        said = f"{_extent(one.effort.inspect)} and {_extent(two.effort.inspect)} were inspected"
        apart = frozenset({Basis.INSPECTION, Basis.TIME})
        found.append(Reservation(f"Different inspection: {said}.", apart))
    if one.effort.costs != two.effort.costs:
        said = f"{_share(one.effort.costs)} and {_share(two.effort.costs)}"
        apart = frozenset({Basis.COSTS, Basis.TIME})
        found.append(Reservation(f"Different faults timed: {said}.", apart))
    if one.effort.stacks != two.effort.stacks:
        said = f"{_share(one.effort.stacks)} and {_share(two.effort.stacks)}"
        found.append(Reservation(f"Different stacks, which are not compared: of {said}."))
    if _filters(one) != _filters(two):
        said = " and ".join(_said(_filters(each)) for each in (one, two))
        found.append(Reservation(f"Different filters: {said}.", _ALL))
    found += _hooks(one, two)
    for subject in (first, other):
        # What found no room for its VMA is in the totals all the same.
        if subject.summary.whole.health.missed_runs:
            why = f"Events were lost in {subject.name}."
            found.append(Reservation(why, _ALL - {Basis.TIME}))
    return found


def _extent(inspect: int | None) -> str:
    return {None: "all page tables", 0: "none"}.get(inspect, f"{inspect} page tables a change")


def _share(costs: int) -> str:
    return {1: "all", 0: "none"}.get(costs, f"one of {costs:,}")


def _filters(metadata: Metadata) -> dict[str, str]:
    """A PID names another process each time: what counts is whether there was one."""
    given = metadata.options
    filters = {
        name: given[name] for name in ("comm", "cgroup", "unit", "container") if given.get(name)
    }
    return {**filters, "pid": "some"} if given.get("pids") else filters


def _said(filters: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in filters.items()) or "none"


def _hooks(one: Metadata, two: Metadata) -> Iterator[Reservation]:
    for hook, basis in _HOOK_BASES.items():
        here, there = one.hooks[hook], two.hooks[hook]
        if here.function != there.function:
            yield Reservation(
                f"Different hooks: {hook} is attached to {here.function} and to {there.function}.",
                frozenset({basis, Basis.TIME}),
            )
        elif here.how is not there.how:
            yield Reservation(
                f"Different hooks: {hook} by {here.how.value} and by {there.how.value}, which"
                " takes a different time.",
                frozenset({Basis.TIME}),
            )
