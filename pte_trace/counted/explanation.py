"""Why a mapping's write faults were saved or taken: what its counts show, and no more.

Pure: from the row of a mapping and what is known of the kernel to findings, each with the
counts by which it is known. The sentences are `pte_trace.views.explained`'s.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pte_trace.counted.counters import (
    AVOIDABLE,
    CAUSES,
    PMDS_LEFT_READONLY,
    PMDS_MADE_WRITABLE,
    PMDS_PROTECTED_BY_FORK,
    PMDS_SPLIT,
    PROTECTED_BY,
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_LEFT_READONLY,
    PTES_MADE_WRITABLE,
    PTES_NOT_INSPECTED,
    PTES_PROTECTED_BY_FORK,
    WP_OUTCOME,
    WP_PROTECTED_BY,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import Counts, total
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.snapshot import Snapshot
from pte_trace.host.behavior import Behavior

Value = int | bool | None
NOT_INSPECTED, NOT_ASKED = "not_inspected", "not_asked"
# Of entries left read-only for these reasons a write may have to copy the page, or it is avoidable.
_AVOIDABLE = ("clean", "huge", "hugetlb")


def reasons(counts: Counts) -> dict[str, int]:
    """What avoidable faults may come of: entries that changes left read-only, by reason.

    Those that somebody tracks, or that are another process's too, are none of these, nor are those
    whose write was a copy. NOT_INSPECTED: PTEs that nothing is known of.
    NOT_ASKED: those that userfaultfd's lifting its protection did not ask for (before Linux 6.3).
    """
    if not counts.avoidable:
        return {}
    left = Counter(counts.by_name(PTES_LEFT_READONLY))
    left.update(counts.by_name(PMDS_LEFT_READONLY))
    found = Counter({reason: left[reason] for reason in _AVOIDABLE})
    copies = counts.one(WRITE_FAULTS, "wp_copy")
    for reason in _AVOIDABLE:
        copied = min(found[reason], copies)
        found[reason] -= copied
        copies -= copied
    found[NOT_INSPECTED] = counts.sum(PTES_NOT_INSPECTED)
    if (
        not counts.entries_inspected
        and not found[NOT_INSPECTED]
        and not _of(counts[PROTECTION_CHANGES], "mprotect")
    ):
        found[NOT_ASKED] = _of(counts[PTES_CHANGED], "uffd_unprotect")
    return {reason: entries for reason, entries in found.items() if entries}


def _of(by_cause: tuple[int, ...], cause: str) -> int:
    return by_cause[CAUSES.index(cause)]


def unexplained(counts: Counts) -> int:
    """A mapping's avoidable faults beyond the entries of `reasons`."""
    return max(0, counts.avoidable - sum(reasons(counts).values()))


@dataclass(frozen=True)
class Finding:
    """``evidence`` is by field of the JSON document; ``behavior.*`` was found by doing it."""

    kind: str
    evidence: Mapping[str, Value]


@dataclass(frozen=True)
class Explanation:
    """A mapping, and what is to be said of it, in the order in which to say it."""

    vma: VmaRow
    findings: tuple[Finding, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(finding.kind for finding in self.findings)


def explain(
    snapshot: Snapshot, behavior: Behavior, children_seen: Mapping[int, int] = MappingProxyType({})
) -> tuple[Explanation, ...]:
    """Every mapping of *snapshot*, the most write faults first.

    *children_seen*: of a PID whose children were looked for and not traced, how many there were.
    """
    rows = snapshot.vmas.ordered("faults")
    children: dict[int, list[VmaRow]] = defaultdict(list)
    for row in rows:
        if row.ppid != row.pid:
            children[row.ppid].append(row)
    return tuple(
        Explanation(
            vma,
            tuple(_Mapping(vma, snapshot, behavior, children[vma.pid], children_seen).findings()),
        )
        for vma in rows
    )


class _Mapping:
    """One mapping's counts by name."""

    def __init__(
        self,
        vma: VmaRow,
        snapshot: Snapshot,
        behavior: Behavior,
        children: Sequence[VmaRow],
        children_seen: Mapping[int, int],
    ) -> None:
        counts = vma.counts
        self.vma = vma
        self.behavior = behavior
        self.inspects = snapshot.effort.inspects
        self.all_asked_for = snapshot.effort.inspect is None
        self.changes = counts.by_name(PROTECTION_CHANGES)
        self.ptes = counts.by_name(PTES_CHANGED)
        self.left = counts.by_name(PTES_LEFT_READONLY)
        self.huge_left = counts.by_name(PMDS_LEFT_READONLY)
        self.omitted = counts.by_name(PTES_NOT_INSPECTED)
        self.faults = counts.by_name(WRITE_FAULTS)
        self.avoidable = counts.avoidable
        self.reused, self.copied = (
            {cause: counts.one(WP_PROTECTED_BY, outcome, cause) for cause in PROTECTED_BY.names}
            for outcome in WP_OUTCOME.names
        )
        self.forked = {
            "ptes_protected_by_fork": counts.sum(PTES_PROTECTED_BY_FORK),
            "pmds_protected_by_fork": counts.sum(PMDS_PROTECTED_BY_FORK),
        }
        self.changed = counts.sum(PTES_CHANGED)
        self.made = counts.sum(PTES_MADE_WRITABLE)
        self.huge_made = counts.sum(PMDS_MADE_WRITABLE)
        self.split = counts.sum(PMDS_SPLIT)
        self.inspected = counts.inspected
        self.entries = counts.entries_inspected
        self.shared = vma.perms[3] == "s"
        self.children = children
        self.children_seen = children_seen.get(vma.pid)

    def findings(self) -> Iterator[Finding]:
        if not self.vma.end:
            yield self._finding("not_attributed", write_faults=sum(self.faults.values()))
            return
        yield from self._saved()
        yield from self._not_asked_for()
        yield from self._left_readonly()
        yield from self._huge_left()
        yield from self._shared_left()
        yield from self._unexplained()
        yield from self._protected()
        yield from self._beside_the_point()

    def _finding(self, kind: str, *fields: str, **more: Value) -> Finding:
        """With the values of *fields*, and of *more* (a double underscore is a dot)."""
        evidence = {field: self._value(field) for field in fields}
        return Finding(
            kind, evidence | {name.replace("__", "."): value for name, value in more.items()}
        )

    def _value(self, field: str) -> Value:
        groups: Mapping[str, Mapping[str, int]] = {
            "protection_changes": self.changes,
            "ptes_left_readonly": self.left,
            "pmds_left_readonly": self.huge_left,
            "ptes_not_inspected": self.omitted,
            "write_faults": self.faults,
            "wp_protected_by.wp_reuse": self.reused,
            "wp_protected_by.wp_copy": self.copied,
        }
        if field in groups:
            return sum(groups[field].values())
        group, _, name = field.rpartition(".")
        return groups[group][name]

    def _saved(self) -> Iterator[Finding]:
        if self.made or self.huge_made:
            huge = {"pmds_made_writable": self.huge_made} if self.huge_made else {}
            yield self._finding(
                "saved",
                *self._avoidable(),
                ptes_made_writable=self.made,
                ptes_inspected=self.inspected,
                **huge,
            )
        if self._rewritten_without_optimization and self.avoidable:
            yield self._finding(
                "no_optimization",
                "protection_changes.mprotect",
                "protection_changes.uffd_unprotect",
                *self._avoidable(),
                ptes_changed=self.changed,
                behavior__optimization=False,
            )
        if self.changed and not self.inspects:
            yield self._finding(
                "not_inspected",
                *self._avoidable(),
                ptes_changed=self.changed,
                ptes_inspected=None,
            )
        if self.omitted["limit"]:
            which = "omitted_beyond" if self.all_asked_for else "omitted_limit"
            yield self._finding(which, "ptes_not_inspected.limit")
        if self.omitted["huge"]:
            yield self._finding("omitted_huge", "ptes_not_inspected.huge")

    def _not_asked_for(self) -> Iterator[Finding]:
        """Protection changes that could not make PTEs writable."""
        changes = sum(self.changes.values())
        if changes and not self.changed:
            yield self._finding("no_pages", "protection_changes", ptes_changed=0)
        if not self._asked_for_none:
            return
        if self._unprotected and self.avoidable and not self._hugetlb_rewritten:
            yield self._finding(
                "unprotect_asks_not",
                "protection_changes.uffd_unprotect",
                "wp_protected_by.wp_reuse.uffd_unprotect",
                ptes_changed=self.changed,
                ptes_inspected=0,
            )
        elif self.ptes["mprotect"]:
            yield self._finding(
                "not_asked",
                "protection_changes.mprotect",
                ptes_changed=self.changed,
                ptes_inspected=0,
            )

    @property
    def _asked_for_none(self) -> bool:
        """PTEs are inspected after each change that asks for writable ones, where it can."""
        known = self.inspects and self.behavior.optimization is not False
        return known and not self.entries and not any(self.omitted.values())

    @property
    def _rewritten_without_optimization(self) -> bool:
        """Made writable where mprotect() leaves that to the faults: not just made read-only."""
        changes = self.changes["mprotect"] + self.changes["uffd_unprotect"]
        rewritten = changes > 1 or (changes and "w" in self.vma.perms)
        absent = self.behavior.optimization is False and self.vma.kind != "hugetlb"
        return bool(absent and rewritten and self.changed)

    @property
    def _hugetlb_rewritten(self) -> bool:
        """Where no entry is looked at since no change asks for it."""
        unseen = self.vma.kind == "hugetlb" and not self.entries
        return bool(unseen and self.changed and self.avoidable)

    @property
    def _unprotected(self) -> bool:
        return bool(self.ptes["uffd_unprotect"] and not self.changes["mprotect"])

    def _left_readonly(self) -> Iterator[Finding]:
        reuse, copy = "write_faults.wp_reuse", "write_faults.wp_copy"
        if self.left["soft_dirty"] or self.huge_left["soft_dirty"] or self._met("soft_dirty"):
            yield self._finding(
                "soft_dirty",
                *self._left("soft_dirty"),
                *self._by("soft_dirty"),
                behavior__soft_dirty=self.behavior.soft_dirty,
            )
        clean = "ptes_left_readonly.clean"
        if self.left["clean"] and self.shared:
            yield self._finding("clean_shared", clean, "write_faults.wp_shared")
        elif self.left["clean"]:
            yield self._finding(
                "clean", clean, reuse, copy, behavior__clean_pages=self.behavior.clean_pages
            )
        if self.left["uffd_wp"] or self.huge_left["uffd_wp"] or self.faults["wp_uffd"]:
            yield self._finding(
                "uffd_wp",
                *self._left("uffd_wp"),
                "write_faults.wp_uffd",
                "protection_changes.uffd_wp",
            )

    def _avoidable(self) -> Iterator[str]:
        """The fields of the avoidable faults."""
        for cause in AVOIDABLE:
            if self.reused[cause]:
                yield f"wp_protected_by.wp_reuse.{cause}"

    def _met(self, cause: str) -> int:
        """Write faults of pages that it had write-protected."""
        return self.reused[cause] + self.copied[cause]

    def _by(self, cause: str) -> Iterator[str]:
        """The fields of these."""
        for outcome in WP_OUTCOME.names:
            yield f"wp_protected_by.{outcome}.{cause}"

    def _by_children(self) -> dict[str, int]:
        """How many there are, and what they wrote to of what they have of this mapping."""
        found = {"children_traced": len({row.pid for row in self.children})}
        theirs = total(
            row.counts
            for row in self.children
            if row.start < self.vma.end and self.vma.start < row.end
        )
        for outcome in WP_OUTCOME.names:
            if faults := theirs.one(WP_PROTECTED_BY, outcome, "fork"):
                found[f"children_{outcome}"] = faults
        if self.children_seen is not None:
            found["children_seen"] = self.children_seen
        return found

    def _left(self, reason: str) -> Iterator[str]:
        """The fields of the entries that were left read-only for it."""
        yield f"ptes_left_readonly.{reason}"
        if self.huge_left[reason]:
            yield f"pmds_left_readonly.{reason}"

    def _huge_left(self) -> Iterator[Finding]:
        """Huge pages that this kernel, or any kernel, leaves read-only."""
        faults = ("write_faults.wp_reuse", "write_faults.wp_copy")
        if self.huge_left["huge"]:
            yield self._finding(
                "huge",
                "pmds_left_readonly.huge",
                *faults,
                behavior__huge_pages=self.behavior.huge_pages,
            )
        if self.huge_left["hugetlb"] or self._hugetlb_rewritten:
            yield self._finding("hugetlb", "pmds_left_readonly.hugetlb", *faults)

    def _shared_left(self) -> Iterator[Finding]:
        """Pages that were not this process's alone when protection was changed."""
        if self.left["shared"] or self.huge_left["shared"]:
            kind = "left_in_shared" if self.shared else "not_exclusive"
            yield self._finding(kind, *self._left("shared"))

    def _protected(self) -> Iterator[Finding]:
        """Write faults that no protection change could save, by what had write-protected them."""
        forked = {field: entries for field, entries in self.forked.items() if entries}
        if self._met("fork") or forked:
            yield self._finding("fork", *self._by("fork"), **forked, **self._by_children())
        for cause in ("never_writable", "unknown"):
            if self._met(cause):
                yield self._finding(cause, *self._by(cause))

    def _unexplained(self) -> Iterator[Finding]:
        """Avoidable faults beyond the entries that protection changes left read-only."""
        known = self.inspects and self.behavior.optimization is not False
        if known and unexplained(self.vma.counts):
            yield self._finding(
                "unexplained",
                "ptes_left_readonly",
                "pmds_left_readonly",
                "ptes_not_inspected",
                *self._avoidable(),
            )

    def _beside_the_point(self) -> Iterator[Finding]:
        """Faults and changes that the optimization is not about."""
        for kind, field, number in (
            ("shared_write", "write_faults.wp_shared", self.faults["wp_shared"]),
            ("tracked", "write_faults.wp_tracked", self.faults["wp_tracked"]),
            ("uffd_missing", "write_faults.uffd_missing", self.faults["uffd_missing"]),
            ("numa_hint", "protection_changes.numa_hint", self.changes["numa_hint"]),
            ("first_touch", "write_faults.other", self.faults["other"]),
            ("error", "write_faults.error", self.faults["error"]),
        ):
            if number:
                yield self._finding(kind, field)
        if self.split:
            yield self._finding("split", pmds_split=self.split)
