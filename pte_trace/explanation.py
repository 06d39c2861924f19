"""Why a mapping's write faults were saved or taken: what its counts show, and no more.

Pure: from the row of a mapping and what is known of the kernel to findings, each with the
counts by which it is known. The sentences are `pte_trace.views.explained`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pte_trace.behavior import Behavior
from pte_trace.records import CAUSES, OMISSIONS, OUTCOMES, REASONS, Counts
from pte_trace.snapshot import Snapshot, VmaRow, ordered

Value = int | bool | None
NOT_INSPECTED, NOT_ASKED = "not_inspected", "not_asked"
_ANONYMOUS = ("anon", "heap", "stack")
# Of PTEs left read-only for these reasons a write may have to copy the page.
_COPIED = ("shared", "clean")


def reasons(counts: Counts) -> dict[str, int]:
    """What a mapping's avoidable faults may come of: PTEs that changes left read-only, by reason.

    PTEs whose write was a copy are none of these. NOT_INSPECTED: PTEs that nothing is known of.
    NOT_ASKED: those that userfaultfd's lifting its protection did not ask for (before Linux 6.3).
    """
    if not counts.avoidable:
        return {}
    found = dict(zip(REASONS, counts.left_readonly, strict=True))
    copies = counts.write_faults[OUTCOMES.index("wp_copy")]
    for reason in _COPIED:
        copied = min(found[reason], copies)
        found[reason] -= copied
        copies -= copied
    found[NOT_INSPECTED] = sum(counts.not_inspected)
    if not counts.inspected and not found[NOT_INSPECTED] and not _of(counts.changes, "mprotect"):
        found[NOT_ASKED] = _of(counts.ptes_changed, "uffd_unprotect")
    return {reason: ptes for reason, ptes in found.items() if ptes}


def _of(by_cause: tuple[int, ...], cause: str) -> int:
    return by_cause[CAUSES.index(cause)]


def unexplained(counts: Counts) -> int:
    """A mapping's avoidable faults beyond the PTEs of `reasons`."""
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
    return tuple(
        Explanation(vma, tuple(_Mapping(vma, snapshot, behavior, children_seen).findings()))
        for vma in ordered(snapshot.vmas, "faults")
    )


class _Mapping:
    """One mapping's counts by name."""

    def __init__(
        self,
        vma: VmaRow,
        snapshot: Snapshot,
        behavior: Behavior,
        children_seen: Mapping[int, int],
    ) -> None:
        counts = vma.counts
        self.vma = vma
        self.behavior = behavior
        self.inspects = snapshot.effort.inspects
        self.all_asked_for = snapshot.effort.inspect is None
        self.changes = dict(zip(CAUSES, counts.changes, strict=True))
        self.ptes = dict(zip(CAUSES, counts.ptes_changed, strict=True))
        self.left = dict(zip(REASONS, counts.left_readonly, strict=True))
        self.omitted = dict(zip(OMISSIONS, counts.not_inspected, strict=True))
        self.faults = dict(zip(OUTCOMES, counts.write_faults, strict=True))
        self.changed = sum(counts.ptes_changed)
        self.made = sum(counts.made_writable)
        self.inspected = counts.inspected
        self.shared = vma.perms[3] == "s"
        traced = {row.pid for row in snapshot.vmas if row.ppid == vma.pid and row.pid != vma.pid}
        self.children = {"children_traced": len(traced)}
        if vma.pid in children_seen:
            self.children["children_seen"] = children_seen[vma.pid]

    def findings(self) -> Iterator[Finding]:
        if not self.vma.end:
            yield self._finding("not_attributed", write_faults=sum(self.faults.values()))
            return
        yield from self._saved()
        yield from self._not_asked_for()
        yield from self._left_readonly()
        if self._may_have_asked:
            yield from self._copied()
            yield from self._unexplained()
        else:
            yield from self._without_change()
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
            "ptes_not_inspected": self.omitted,
            "write_faults": self.faults,
        }
        group, _, name = field.partition(".")
        return groups[group][name] if name else sum(groups[group].values())

    def _saved(self) -> Iterator[Finding]:
        reuse = "write_faults.wp_reuse"
        if self.made:
            yield self._finding(
                "saved", reuse, ptes_made_writable=self.made, ptes_inspected=self.inspected
            )
        if self._rewritten_without_optimization and self.faults["wp_reuse"]:
            yield self._finding(
                "no_optimization",
                reuse,
                "protection_changes.mprotect",
                "protection_changes.uffd_unprotect",
                ptes_changed=self.changed,
                behavior__optimization=False,
            )
        if self.changed and not self.inspects:
            yield self._finding(
                "not_inspected", reuse, ptes_changed=self.changed, ptes_inspected=None
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
        if self._unprotected and self.faults["wp_reuse"]:
            yield self._finding(
                "unprotect_asks_not",
                "protection_changes.uffd_unprotect",
                "write_faults.wp_reuse",
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
        return known and not self.inspected and not any(self.omitted.values())

    @property
    def _rewritten_without_optimization(self) -> bool:
        """Made writable where mprotect() leaves that to the faults: not just made read-only."""
        changes = self.changes["mprotect"] + self.changes["uffd_unprotect"]
        rewritten = changes > 1 or (changes and "w" in self.vma.perms)
        return bool(self.behavior.optimization is False and rewritten and self.changed)

    @property
    def _may_have_asked(self) -> bool:
        """Whether a change asked for writable PTEs, or not all is known of those that were."""
        if self.behavior.optimization is False:
            return self._rewritten_without_optimization
        if not self.inspects:
            return bool(self.changed)
        return bool(self.inspected or any(self.omitted.values()) or self._unprotected)

    @property
    def _unprotected(self) -> bool:
        return bool(self.ptes["uffd_unprotect"] and not self.changes["mprotect"])

    def _without_change(self) -> Iterator[Finding]:
        """Write-protected pages that no protection change can have to do with."""
        fields = ("write_faults.wp_reuse", "write_faults.wp_copy")
        if any(map(self._value, fields)):
            yield self._finding(
                "no_change", *fields, ptes_inspected=self.inspected if self.inspects else None
            )

    def _left_readonly(self) -> Iterator[Finding]:
        reuse, copy = "write_faults.wp_reuse", "write_faults.wp_copy"
        if self.left["soft_dirty"]:
            yield self._finding(
                "soft_dirty",
                "ptes_left_readonly.soft_dirty",
                reuse,
                behavior__soft_dirty=self.behavior.soft_dirty,
            )
        clean = "ptes_left_readonly.clean"
        if self.left["clean"] and self.shared:
            yield self._finding("clean_shared", clean, "write_faults.wp_shared")
        elif self.left["clean"]:
            yield self._finding(
                "clean", clean, reuse, copy, behavior__clean_pages=self.behavior.clean_pages
            )
        if self.left["uffd_wp"] or self.faults["wp_uffd"]:
            yield self._finding(
                "uffd_wp",
                "ptes_left_readonly.uffd_wp",
                "write_faults.wp_uffd",
                "protection_changes.uffd_wp",
            )

    def _copied(self) -> Iterator[Finding]:
        """Pages that were not this process's alone."""
        fields = ("ptes_left_readonly.shared", "write_faults.wp_copy", "write_faults.wp_reuse")
        if not self.left["shared"] and not self.faults["wp_copy"]:
            return
        if self.shared:
            yield self._finding("left_in_shared", *fields)
        elif self.vma.kind not in _ANONYMOUS:
            yield self._finding("file_pages", *fields)
        elif not self.faults["other"]:
            yield self._finding("not_written_before", *fields, "write_faults.other")
        else:
            kind = "fork" if any(self.children.values()) else "not_exclusive"
            yield self._finding(kind, *fields, "write_faults.other", **self.children)

    def _unexplained(self) -> Iterator[Finding]:
        """Avoidable faults beyond the PTEs that protection changes left read-only."""
        known = self.inspects and self.behavior.optimization is not False
        if known and unexplained(self.vma.counts):
            yield self._finding(
                "unexplained",
                "write_faults.wp_reuse",
                "ptes_left_readonly",
                "write_faults.wp_copy",
                "ptes_not_inspected",
            )

    def _beside_the_point(self) -> Iterator[Finding]:
        """Faults and changes that the optimization is not about."""
        for kind, field, number in (
            ("shared_write", "write_faults.wp_shared", self.faults["wp_shared"]),
            ("numa_hint", "protection_changes.numa_hint", self.changes["numa_hint"]),
            ("first_touch", "write_faults.other", self.faults["other"]),
            ("error", "write_faults.error", self.faults["error"]),
        ):
            if number:
                yield self._finding(kind, field)
