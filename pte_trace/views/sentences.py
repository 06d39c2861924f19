"""What a snapshot says, in sentences: a heading, a summary to quote, and its reservations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.text import Text

from pte_trace.counted import explanation
from pte_trace.counted.counters import (
    PMDS_MADE_WRITABLE,
    PTES_MADE_WRITABLE,
    PTES_NOT_INSPECTED,
    WP_PROTECTED_BY,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import Counts
from pte_trace.counted.snapshot import Kernel, Snapshot
from pte_trace.effort import TABLES_PER_CHANGE, Effort
from pte_trace.host import plan

_OPTIMIZATION = {True: "at work", False: "absent", None: "unknown"}
_REASONS = {
    "clean": "clean pages",
    "huge": "huge pages, which this kernel leaves read-only",
    "hugetlb": "hugetlb pages, which every kernel leaves read-only",
    explanation.NOT_INSPECTED: "what was not inspected",
    explanation.NOT_ASKED: "userfaultfd's write protection lifted without asking for writable PTEs",
}


_PROTECTORS = {
    "fork": "of a fork",
    "soft_dirty": "of soft-dirty tracking",
    "uffd_wp": "of userfaultfd write protection",
    "never_writable": "never written to before",
    "unknown": "of what is not known",
}
_UNITS = {"huge": "huge page", "hugetlb": "huge page"}


def kernel(which: Kernel) -> str:
    return f"Linux {which.release}, mprotect optimization {_OPTIMIZATION[which.optimization]}"


def heading(snapshot: Snapshot) -> Text:
    return Text(f"{kernel(snapshot.kernel)}; {snapshot.duration_s:.3f} s traced")


def summary(snapshot: Snapshot) -> Text:
    """What the optimization saved, as far as PTEs were inspected, and what it did not."""
    said = [saved(snapshot, snapshot.totals)] if snapshot.effort.inspects else []
    return Text(" ".join([*said, _remaining(snapshot), *_others(snapshot.totals)]))


def notes(snapshot: Snapshot) -> list[Text]:
    """What a reader of the numbers must know about them."""
    health = snapshot.health
    lines = [*plan.degraded(snapshot.hooks, snapshot.needless).values()]
    lines += _not_looked_at(snapshot)
    if snapshot.foreign_pids:
        lines.append("PIDs are the host's: pte-trace runs in a PID namespace.")
    if health.map_full:
        lines.append(
            f"{health.map_full:,} events found no room for their VMA: they are counted in"
            " their process's row [not attributed]. More room: --max-vmas."
        )
    if health.paths_full:
        lines.append(
            f"{several(health.paths_full, 'name')} found no room: such mappings are called"
            " [inode N] or [anon:?]. More room: --max-vmas."
        )
    if health.timings_full:
        lines.append(
            f"{several(health.timings_full, 'write fault')} found no room to be timed. More room:"
            " --max-vmas."
        )
    if health.stacks_full:
        lines.append(
            f"{health.stacks_full:,} faults, calls or mappings of code found no room: stacks are"
            " incomplete. More room: --max-vmas."
        )
    if health.missed_runs:
        lines.append(
            f"The kernel skipped {health.missed_runs:,} runs of our programs: not counted."
        )
    return [Text(line, style="yellow") for line in lines]


def duration(seconds: float) -> str:
    """To three digits, with the unit that leaves one to three of them before the point."""
    if seconds >= 999.5:
        return f"{seconds:,.0f} s"
    rounded = float(f"{seconds:.3g}")
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if rounded >= size:
            return f"{rounded / size:.3g} {unit}"
    return f"{rounded / 1e-9:.3g} ns"


def saved(snapshot: Snapshot, counts: Counts) -> str:
    """What *counts*, all or a part of the snapshot's, say that was saved."""
    made = entries(counts.sum(PTES_MADE_WRITABLE), counts.sum(PMDS_MADE_WRITABLE))
    of_inspected = f" of the {counts.inspected:,} inspected" if _omitted(counts)["limit"] else ""
    if not counts.made_writable:
        return f"No PTE{of_inspected} was made writable by a protection change."
    who = "Protection changes" if snapshot.kernel.optimization is False else "The optimization"
    said = f"{who} made {made}{of_inspected} writable at once"
    cost, seconds = snapshot.reuse_cost, snapshot.seconds_saved(counts)
    if cost is None or seconds is None:
        return f"{said}."
    return (
        f"{said}; at {duration(cost.nanoseconds / 1e9)} a fault that is at most {duration(seconds)}"
        f" saved (an estimate, from {cost.source})."
    )


def saved_at_most(snapshot: Snapshot) -> Text:
    """The time saved, in one line: an estimate, and its source."""
    seconds, cost = snapshot.seconds_saved(snapshot.totals), snapshot.reuse_cost
    if not snapshot.effort.inspects:
        return Text("Time saved: not known (--inspect none).")
    if seconds is None or cost is None:
        return Text("Time saved: not known, for no wp_reuse fault was timed.")
    of_inspected = ", of what was inspected" if _omitted(snapshot.totals)["limit"] else ""
    return Text(
        f"At most {duration(seconds)} saved{of_inspected}: an estimate, from {cost.source}."
    )


def _remaining(snapshot: Snapshot) -> str:
    avoidable = snapshot.totals.avoidable
    if not avoidable:
        return "No avoidable fault remained."
    said = f"{several(avoidable, 'avoidable fault')} remained"
    if snapshot.kernel.optimization is False:
        return f"{said}: this kernel lacks the optimization."
    return f"{said}{_why(snapshot)}."


def _others(counts: Counts) -> Iterator[str]:
    """The reuse faults that no protection change was to blame for, the most frequent first."""
    found = Counter(
        {cause: counts.one(WP_PROTECTED_BY, "wp_reuse", cause) for cause in _PROTECTORS}
    )
    if faults := found.total():
        causes = ", ".join(
            f"{number:,} {_PROTECTORS[cause]}" for cause, number in found.most_common() if number
        )
        yield f"{several(faults, 'other write')} reused a write-protected page: {causes}."


def _why(snapshot: Snapshot) -> str:
    """The reasons found in the mappings that took the faults, and how many have none.

    Each reason with its PTEs, unless it is that of all. Nothing where there are no mappings.
    """
    if not snapshot.vmas or not snapshot.effort.inspects:
        return ""
    found: Counter[str] = Counter()
    unexplained = 0
    for vma in snapshot.vmas.with_any(WRITE_FAULTS, "wp_reuse"):
        found.update(explanation.reasons(vma.counts))
        unexplained += explanation.unexplained(vma.counts)
    if not found:
        return "; the changes that were seen do not explain why"
    if len(found) == 1 and not unexplained:
        return f": {_REASONS[next(iter(found))]}"
    why = ", ".join(
        f"{_REASONS[reason]} ({several(number, _UNITS.get(reason, 'PTE'))})"
        for reason, number in found.most_common()
    )
    others = f"; no change that was seen explains {unexplained:,} of them" if unexplained else ""
    return f": {why}{others}"


def limit(effort: Effort) -> str:
    """What kept PTEs from being inspected."""
    if effort.inspect is None:
        return f"beyond the {TABLES_PER_CHANGE:,} page tables that are looked at of one change"
    return f"--inspect {effort.inspect}"


def _omitted(counts: Counts) -> dict[str, int]:
    return counts.by_name(PTES_NOT_INSPECTED)


def _not_looked_at(snapshot: Snapshot) -> list[str]:
    omitted = _omitted(snapshot.totals)
    lines = []
    if not snapshot.effort.inspects:
        lines.append("PTEs made writable and left read-only are not known (--inspect none).")
    if omitted["limit"]:
        lines.append(
            f"Not inspected ({limit(snapshot.effort)}): {several(omitted['limit'], 'changed PTE')},"
            " in neither WRITABLE nor READONLY."
        )
    if omitted["huge"]:
        lines.append(
            "In pages larger than 2 MiB, whose entries are not inspected:"
            f" {several(omitted['huge'], 'changed PTE')}."
        )
    if snapshot.effort.costs > 1:
        lines.append(f"One of {snapshot.effort.costs:,} write faults was timed (--costs).")
    return lines


def entries(ptes: int, pmds: int) -> str:
    """What was made writable or left read-only."""
    if not pmds:
        return several(ptes, "PTE")
    huge = several(pmds, "huge page")
    return f"{several(ptes, 'PTE')} and {huge}" if ptes else huge


def several(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
