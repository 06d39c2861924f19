"""What is found of a mapping: each finding from the counts that show it, and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pte_trace.counted.explanation import Explanation, Value, explain
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.host.behavior import Behavior
from tests.builders import counts, record, snapshot

TODAY = Behavior(optimization=True, clean_pages=True, soft_dirty=True)
LINUX_6_1 = replace(TODAY, clean_pages=False)
LINUX_5_10 = Behavior(optimization=False, clean_pages=False, soft_dirty=True)
TOGGLED = {"mprotect": 2}
RELRO = counts({"mprotect": 1}, {"mprotect": 3})
NO_INSPECTION = Effort(inspect=0)


def explained(
    of: Any, behavior: Behavior = TODAY, effort: Effort = EVERYTHING, **row: Any
) -> Explanation:
    """The explanation of one mapping with the counts *of*."""
    shown = snapshot(record(counts=of, **row), effort=effort)
    (found,) = explain(shown, behavior)
    return found


def evidence(kind: str, of: Any, behavior: Behavior = TODAY, **row: Any) -> dict[str, Value]:
    """The evidence of the one finding of that kind."""
    (found,) = (each for each in explained(of, behavior, **row).findings if each.kind == kind)
    return dict(found.evidence)


def toggled(faults: dict[str, int] | None = None, **inspected: Any) -> Any:
    """A mapping of 10 pages made read-only and writable again."""
    return counts(TOGGLED, {"mprotect": 20}, faults, **inspected)


def reused_by(cause: str, faults: int) -> dict[str, dict[str, int]]:
    return {"wp_reuse": {cause: faults}}


def copied_by(cause: str, faults: int) -> dict[str, dict[str, int]]:
    return {"wp_copy": {cause: faults}}


READ_ONLY_LATER = counts(
    {"mprotect": 1},
    {"mprotect": 3},
    {"wp_reuse": 2, "wp_copy": 1},
    protected={"wp_reuse": {"unknown": 2}, "wp_copy": {"never_writable": 1}},
)

CASES: list[tuple[str, Any, Behavior, dict[str, Any], tuple[str, ...]]] = [
    ("first touch only", counts(faults={"other": 9}), TODAY, {}, ("first_touch",)),
    ("all saved", toggled(writable={"mprotect": 10}), TODAY, {}, ("saved",)),
    ("an old kernel", toggled({"wp_reuse": 10}), LINUX_5_10, {}, ("no_optimization",)),
    ("an old kernel, not rewritten", toggled(), LINUX_5_10, {}, ()),
    (
        "an old kernel, no change",
        counts(faults={"wp_reuse": 3}, protected=reused_by("fork", 3)),
        LINUX_5_10,
        {},
        ("fork",),
    ),
    (
        "made read-only after a fault, an old kernel",
        READ_ONLY_LATER,
        LINUX_5_10,
        {"perms": "r--p"},
        ("never_writable", "unknown"),
    ),
    (
        "made writable once, an old kernel",
        counts({"mprotect": 1}, {"mprotect": 3}, {"wp_reuse": 3}),
        LINUX_5_10,
        {"perms": "rw-p"},
        ("no_optimization",),
    ),
    (
        "copied, an old kernel",
        toggled({"wp_copy": 10, "other": 10}),
        LINUX_5_10,
        {},
        ("fork", "first_touch"),
    ),
    (
        "made read-only after a fault",
        READ_ONLY_LATER,
        TODAY,
        {},
        ("not_asked", "never_writable", "unknown"),
    ),
    ("no pages yet", counts({"mprotect": 4}), TODAY, {}, ("no_pages",)),
    ("made read-only", RELRO, TODAY, {}, ("not_asked",)),
    ("made read-only, an old kernel", RELRO, LINUX_5_10, {}, ()),
    (
        "soft-dirty",
        toggled(
            {"wp_reuse": 10},
            readonly={"soft_dirty": 10},
            protected=reused_by("soft_dirty", 10),
        ),
        TODAY,
        {},
        ("soft_dirty",),
    ),
    (
        "soft-dirty, no change",
        counts(faults={"wp_reuse": 10}, protected=reused_by("soft_dirty", 10)),
        TODAY,
        {},
        ("soft_dirty",),
    ),
    ("clean", toggled({"wp_reuse": 10}, readonly={"clean": 10}), LINUX_6_1, {}, ("clean",)),
    (
        "only read, 6.1",
        toggled({"wp_copy": 10}, readonly={"clean": 10}, protected=copied_by("never_writable", 10)),
        LINUX_6_1,
        {},
        ("clean", "never_writable"),
    ),
    (
        "only read, today",
        toggled(
            {"wp_copy": 10}, readonly={"shared": 10}, protected=copied_by("never_writable", 10)
        ),
        TODAY,
        {},
        ("not_exclusive", "never_writable"),
    ),
    (
        "clean pages of a shared file",
        toggled({"wp_shared": 10}, readonly={"clean": 10}),
        TODAY,
        {"perms": "rw-s", "kind": "file"},
        ("clean_shared", "shared_write"),
    ),
    (
        "dirty pages of a shared file",
        toggled(readonly={"shared": 1}),
        TODAY,
        {"perms": "rw-s", "kind": "file"},
        ("left_in_shared",),
    ),
    (
        "pages of a private file",
        toggled(
            {"wp_copy": 10}, readonly={"shared": 10}, protected=copied_by("never_writable", 10)
        ),
        TODAY,
        {"kind": "file"},
        ("not_exclusive", "never_writable"),
    ),
    (
        "shared with another process",
        toggled({"wp_copy": 10, "other": 10}, readonly={"shared": 10}),
        TODAY,
        {},
        ("not_exclusive", "fork", "first_touch"),
    ),
    (
        "not alone at the change, alone at the write",
        toggled(
            {"wp_reuse": 10, "other": 10},
            readonly={"shared": 10},
            protected=reused_by("fork", 10),
        ),
        TODAY,
        {},
        ("not_exclusive", "fork", "first_touch"),
    ),
    ("a fork, nothing written since", counts(forked=10), TODAY, {}, ("fork",)),
    (
        "a fork of huge pages",
        counts(faults={"wp_reuse": 7}, protected=reused_by("fork", 7), huge_forked=7),
        TODAY,
        {},
        ("fork",),
    ),
    (
        "userfaultfd",
        counts({"uffd_wp": 1}, {"uffd_wp": 10}, {"wp_uffd": 10}),
        TODAY,
        {},
        ("uffd_wp",),
    ),
    ("userfaultfd armed", toggled(readonly={"uffd_wp": 10}), TODAY, {}, ("uffd_wp",)),
    (
        "userfaultfd lifted before 6.3",
        counts({"uffd_unprotect": 1}, {"uffd_unprotect": 10}, {"wp_reuse": 10}),
        LINUX_6_1,
        {},
        ("unprotect_asks_not",),
    ),
    (
        "userfaultfd lifted before 6.3, not rewritten",
        counts({"uffd_unprotect": 1}, {"uffd_unprotect": 10}),
        LINUX_6_1,
        {},
        (),
    ),
    (
        "userfaultfd lifted since",
        counts({"uffd_unprotect": 1}, {"uffd_unprotect": 10}, writable={"uffd_unprotect": 10}),
        TODAY,
        {},
        ("saved",),
    ),
    (
        "more than is looked at of one change",
        toggled({"wp_reuse": 5}, omitted={"limit": 10}),
        TODAY,
        {},
        ("omitted_beyond",),
    ),
    (
        "pages of a GiB",
        toggled({"other": 1}, omitted={"huge": 512}),
        TODAY,
        {},
        ("omitted_huge", "first_touch"),
    ),
    (
        "huge pages",
        toggled({"other": 7}, huge_writable={"mprotect": 7}),
        TODAY,
        {},
        ("saved", "first_touch"),
    ),
    (
        "huge pages, 6.1",
        toggled({"wp_reuse": 7, "other": 7}, huge_readonly={"huge": 7}),
        LINUX_6_1,
        {},
        ("huge", "first_touch"),
    ),
    (
        "huge pages, an old kernel",
        toggled({"wp_reuse": 7, "other": 7}),
        LINUX_5_10,
        {"perms": "rw-p"},
        ("no_optimization", "first_touch"),
    ),
    (
        "huge pages that a child has too",
        toggled({"wp_copy": 7, "other": 7}, huge_readonly={"shared": 7}, split=7),
        TODAY,
        {},
        ("not_exclusive", "fork", "first_touch", "split"),
    ),
    (
        "huge pages, soft-dirty",
        toggled(
            {"wp_reuse": 7},
            huge_readonly={"soft_dirty": 7},
            protected=reused_by("soft_dirty", 7),
        ),
        TODAY,
        {},
        ("soft_dirty",),
    ),
    (
        "huge pages, userfaultfd armed",
        toggled(huge_readonly={"uffd_wp": 7}),
        TODAY,
        {},
        ("uffd_wp",),
    ),
    (
        "hugetlb",
        toggled({"wp_reuse": 7, "other": 7}, huge_readonly={"hugetlb": 7}),
        TODAY,
        {"kind": "hugetlb"},
        ("hugetlb", "first_touch"),
    ),
    (
        "hugetlb, an old kernel",
        toggled({"wp_reuse": 7, "other": 7}),
        LINUX_5_10,
        {"kind": "hugetlb", "perms": "rw-p"},
        ("hugetlb", "first_touch"),
    ),
    (
        "hugetlb, userfaultfd lifted before 6.3",
        counts({"uffd_unprotect": 1}, {"uffd_unprotect": 3584}, {"wp_reuse": 7}),
        LINUX_6_1,
        {"kind": "hugetlb"},
        ("hugetlb",),
    ),
    (
        "tracked",
        counts({"uffd_wp": 1}, {"uffd_wp": 23}, {"wp_tracked": 23}),
        TODAY,
        {},
        ("tracked",),
    ),
    (
        "filled by a monitor",
        counts(faults={"uffd_missing": 23}),
        TODAY,
        {},
        ("uffd_missing",),
    ),
    (
        "avoidable faults of another cause",
        toggled({"wp_reuse": 11}, writable={"mprotect": 10}, readonly={"shared": 10}),
        TODAY,
        {},
        ("saved", "not_exclusive", "unexplained"),
    ),
    (
        "avoidable faults beside copies",
        toggled({"wp_reuse": 9, "wp_copy": 10, "other": 10}, readonly={"shared": 10}),
        TODAY,
        {},
        ("not_exclusive", "unexplained", "fork", "first_touch"),
    ),
    ("avoidable faults, no change", counts(faults={"wp_reuse": 1}), TODAY, {}, ("unexplained",)),
    ("copies, no change", counts(faults={"wp_copy": 1}), TODAY, {}, ("fork",)),
    (
        "of what is not known",
        counts(faults={"wp_reuse": 1}, protected=reused_by("unknown", 1)),
        TODAY,
        {},
        ("unknown",),
    ),
    ("NUMA", counts({"numa_hint": 1}, {"numa_hint": 9}), TODAY, {}, ("numa_hint",)),
    ("errors", counts(faults={"error": 1}), TODAY, {}, ("error",)),
    (
        "lost",
        counts({"mprotect": 1}, faults={"wp_reuse": 2}),
        TODAY,
        {"start": 0, "end": 0},
        ("not_attributed",),
    ),
]


@pytest.mark.parametrize(
    ("of", "behavior", "row", "kinds"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_counts_show_just_these(
    of: Any, behavior: Behavior, row: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    assert explained(of, behavior, **row).kinds == kinds


@pytest.mark.parametrize("of", [toggled({"wp_reuse": 10}), RELRO])
def test_without_inspection_nothing_is_claimed_of_ptes(of: Any) -> None:
    assert explained(of, effort=NO_INSPECTION).kinds == ("not_inspected",)


def test_what_an_option_left_out_is_not_laid_to_the_programs() -> None:
    of = toggled({"wp_reuse": 5}, omitted={"limit": 10})
    assert explained(of, effort=Effort(inspect=2)).kinds == ("omitted_limit",)


def test_without_inspection_an_old_kernel_is_still_known() -> None:
    kinds = explained(toggled({"wp_reuse": 10}), LINUX_5_10, NO_INSPECTION).kinds
    assert kinds == ("no_optimization", "not_inspected")


def test_a_behavior_that_is_not_known_is_not_taken_for_absent() -> None:
    of = toggled({"wp_reuse": 10}, readonly={"clean": 10})
    assert explained(of, Behavior()).kinds == ("clean",)
    assert evidence("clean", of, Behavior())["behavior.clean_pages"] is None


def test_evidence_is_what_was_counted() -> None:
    saved = toggled({"wp_reuse": 1}, writable={"mprotect": 9}, readonly={"clean": 1})
    assert evidence("saved", saved) == {
        "wp_protected_by.wp_reuse.mprotect": 1,
        "ptes_made_writable": 9,
        "ptes_inspected": 10,
    }
    assert evidence("no_optimization", toggled({"wp_reuse": 7}), LINUX_5_10) == {
        "wp_protected_by.wp_reuse.mprotect": 7,
        "protection_changes.mprotect": 2,
        "protection_changes.uffd_unprotect": 0,
        "ptes_changed": 20,
        "behavior.optimization": False,
    }
    beyond = toggled({"wp_reuse": 4}, writable={"mprotect": 9}, readonly={"soft_dirty": 1})
    assert evidence("unexplained", beyond) == {
        "wp_protected_by.wp_reuse.mprotect": 4,
        "ptes_left_readonly": 1,
        "pmds_left_readonly": 0,
        "ptes_not_inspected": 0,
    }


FORKED = toggled({"wp_copy": 10, "other": 10}, readonly={"shared": 10}, forked=10)


def test_a_traced_child_is_told_beside_a_fork() -> None:
    parent = record(counts=FORKED)
    child = record(
        pid=101,
        ppid=100,
        image=2000,
        counts=counts(
            faults={"wp_copy": 9, "wp_reuse": 4},
            protected={"wp_copy": {"fork": 3}, "wp_reuse": {"fork": 2}},
        ),
    )
    again = replace(child, start=0x70000, end=0x80000)
    other = record(pid=102, ppid=1, image=3000)
    found = explain(snapshot(parent, child, again, other), TODAY)
    (story,) = (each for each in found if each.vma.pid == 100)
    assert story.kinds == ("not_exclusive", "fork", "first_touch")
    assert story.findings[0].evidence == {"ptes_left_readonly.shared": 10}
    assert story.findings[1].evidence == {
        "wp_protected_by.wp_reuse.fork": 0,
        "wp_protected_by.wp_copy.fork": 10,
        "ptes_protected_by_fork": 10,
        "children_traced": 1,
        "children_wp_reuse": 2,
        "children_wp_copy": 3,
    }


@pytest.mark.parametrize("seen", [2, 0])
def test_a_child_that_was_seen_is_told_beside_a_fork(seen: int) -> None:
    """Of a process traced by its PID no child is traced."""
    (story,) = explain(snapshot(record(counts=FORKED)), TODAY, {100: seen})
    (found,) = (each for each in story.findings if each.kind == "fork")
    assert (found.evidence["children_traced"], found.evidence["children_seen"]) == (0, seen)


def test_where_no_child_was_looked_for_none_is_said_to_be_seen() -> None:
    assert "children_seen" not in evidence("fork", FORKED)


def test_mappings_with_the_most_faults_come_first() -> None:
    few = record(counts=counts(faults={"other": 1}))
    many = record(start=0x50000, end=0x60000, counts=counts(faults={"other": 9}))
    found = explain(snapshot(few, many), TODAY)
    assert [each.vma.start for each in found] == [0x50000, 0x10000]
