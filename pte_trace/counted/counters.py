"""Every counter there is, declared once.

`make layout` writes bpf/counters.h from it, which the BPF programs count into. Columns, JSON,
metrics, recordings, the tables in docs/ and the manual page are made of it too. To add an outcome
is a line here, a line in the program that tells it, and its sentence in `views/explained.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple


class Value(NamedTuple):
    """One value of a label: ``said`` completes "is counted where …"; ``heading`` is its column."""

    name: str
    said: str
    heading: str = ""


@dataclass(frozen=True)
class Label:
    """By what a family is told apart: a label of its metric, an ``enum`` of the programs.

    That is called ``enum`` where it is not called like the label.
    """

    name: str
    said: str
    values: tuple[Value, ...]
    enum: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.values)


CAUSE = Label(
    "cause",
    "Why protection was changed, from change_protection()'s cp_flags.",
    (
        Value("mprotect", "mprotect() or pkey_mprotect() asked for it"),
        Value("numa_hint", "NUMA balancing wants to see who uses the page"),
        Value("uffd_wp", "a userfaultfd monitor write-protects"),
        Value("uffd_unprotect", "a userfaultfd monitor lifts its write protection"),
    ),
)
OUTCOME = Label(
    "outcome",
    "How a write fault ended.",
    (
        Value(
            "wp_reuse",
            "the same page was made writable, in a private mapping. Avoidable, what the"
            " optimization saves, where a protection change had write-protected it",
            "REUSE",
        ),
        Value("wp_copy", "the page had to be copied", "COPY"),
        Value("wp_shared", "a shared mapping", "SHARED"),
        Value("wp_uffd", "a write-protected page, handed to a userfaultfd monitor", "UFFD"),
        Value(
            "wp_tracked",
            "taken only to note that the page was written to (asynchronous userfaultfd): wanted,"
            " never avoidable",
            "TRACKED",
        ),
        Value("uffd_missing", "a missing page, handed to a userfaultfd monitor", "MISSING"),
        Value("other", "met no write-protected page: first touch, swap-in, …", "OTHER"),
        Value("error", "ended in an error, SIGBUS for one", "ERROR"),
    ),
)
# Those that met a page which only had to be made writable, or to be copied.
WP_OUTCOME = Label("outcome", "Which of them.", OUTCOME.values[:2], enum="wp_outcome")
PROTECTED_BY = Label(
    "protected_by",
    "What had write-protected the page that a write fault met.",
    (
        Value("unknown", "it was not seen, or was KSM: it may have been before tracing began"),
        Value("mprotect", "mprotect() or pkey_mprotect()"),
        Value("uffd_unprotect", "a userfaultfd monitor that lifted its own write protection"),
        Value("numa_hint", "NUMA balancing"),
        Value("fork", "fork(): the page was another process's too, and may be still"),
        Value("soft_dirty", "soft-dirty tracking, which waits for a write (clear_refs)"),
        Value("uffd_wp", "a userfaultfd monitor, which waits for a write"),
        Value("never_writable", "nothing: a file's page or the zero page, mapped by a read"),
    ),
)
# A wp_reuse fault of a page that these had write-protected is what the optimization saves.
AVOIDABLE = ("mprotect", "uffd_unprotect", "numa_hint")
ORIGIN = Label(
    "origin",
    "Who wrote.",
    (
        Value("user", "the program itself"),
        Value("kernel", "the kernel, in a system call of the process"),
        Value("remote", "another process, or a kernel thread"),
    ),
)
REASON = Label(
    "reason",
    "Why a PTE was left read-only by a change that asked for writable ones: the first that holds.",
    (
        Value("clean", "the page is clean"),
        Value("soft_dirty", "soft-dirty tracking waits for a write"),
        Value("uffd_wp", "a userfaultfd monitor waits for a write"),
        Value("shared", "the page is not this process's alone, or not anonymous"),
    ),
)
PMD_REASON = Label(
    "reason",
    "Why a huge page was left read-only by a change that asked for writable ones: the first that"
    " holds.",
    (
        Value("hugetlb", "the kernel never does it for hugetlb pages"),
        Value("uffd_wp", "a userfaultfd monitor waits for a write"),
        Value("soft_dirty", "soft-dirty tracking waits for a write"),
        Value("huge", "this kernel never does it for huge pages"),
        Value("shared", "the page is not this process's alone, or not anonymous"),
    ),
    enum="pmd_reason",
)
OMISSION = Label(
    "omission",
    "Why PTEs that such a change processed were not looked at.",
    (
        Value("huge", "mapped by an entry above PTEs and PMDs, or by one that was not found"),
        Value("limit", "beyond what one change may cost"),
    ),
)
LABELS = (CAUSE, OUTCOME, WP_OUTCOME, PROTECTED_BY, ORIGIN, REASON, PMD_REASON, OMISSION)


@dataclass(frozen=True)
class Family:
    """Counters of one name, one for each value of ``label``; all of them only ever rise.

    With ``outer`` there is one for each value of both. ``name`` is that of JSON, of recordings and
    (with pte_trace_ before it and _total behind it) of the metric, which may have another one:
    ``metric``. ``said`` is the metric's help, ``meaning`` that of docs/. ``heading`` is the column
    that shows the sum. ``inspected``: not known where no PTE is looked at (--inspect none).
    ``summed``: JSON has the sum. One that is not ``recorded`` follows from others in a recording.
    """

    name: str
    unit: str
    said: str
    label: Label | None = None
    heading: str = ""
    meaning: str = ""
    inspected: bool = False
    summed: bool = False
    recorded: bool = True
    outer: Label | None = None
    metric: str = ""

    @cached_property
    def labels(self) -> tuple[Label, ...]:
        return tuple(label for label in (self.outer, self.label) if label)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple("_".join(values) for values in self.values) if self.label else ()

    @cached_property
    def values(self) -> tuple[tuple[str, ...], ...]:
        """Of its labels, of each number."""
        return tuple(product(*(label.names for label in self.labels)))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Its numbers by name, also of a family that has one alone."""
        return self.names or ("all",)

    @property
    def width(self) -> int:
        return len(self.parts)

    @cached_property
    def place(self) -> slice:
        """Where its numbers are among all of SIZE."""
        first: int = sum(each.width for each in FAMILIES[: FAMILIES.index(self)])
        return slice(first, first + self.width)

    def at(self, *names: str) -> int:
        """Where the number for those values is among all of SIZE. Raises ValueError."""
        first: int = self.place.start
        return first + self.parts.index("_".join(names))


PROTECTION_CHANGES = Family(
    "protection_changes",
    "calls",
    "Calls of change_protection().",
    CAUSE,
    "CHANGES",
    "calls of `change_protection()`, by cause: {values}",
)
PTES_CHANGED = Family(
    "ptes_changed",
    "PTEs",
    "PTEs that change_protection() processed, by its own return value.",
    CAUSE,
    "PTES",
    "PTEs those calls processed, by the kernel's own return value",
    summed=True,
)
PTES_INSPECTED = Family(
    "ptes_inspected",
    "PTEs",
    "PTEs looked at after a change that asked for writable ones.",
    inspected=True,
    recorded=False,
)
PTES_MADE_WRITABLE = Family(
    "ptes_made_writable",
    "PTEs",
    "PTEs that the optimization mapped writable at once: at most one fault avoided each.",
    CAUSE,
    "WRITABLE",
    "PTEs that are writable after a change although its protection alone would have left them"
    " read-only: the optimization at work, at most one fault saved each",
    inspected=True,
    summed=True,
)
PTES_LEFT_READONLY = Family(
    "ptes_left_readonly",
    "PTEs",
    "PTEs left read-only by a change that asked for writable ones.",
    REASON,
    "READONLY",
    "PTEs that stayed read-only where the change asked for writable ones, by reason: {values}",
    inspected=True,
)
PTES_NOT_INSPECTED = Family(
    "ptes_not_inspected",
    "PTEs",
    "PTEs changed in a call that asked for writable ones, but not looked at.",
    OMISSION,
    inspected=True,
)
PMDS_MADE_WRITABLE = Family(
    "pmds_made_writable",
    "PMDs",
    "PMDs (huge pages) that the optimization mapped writable at once: at most one fault avoided"
    " each.",
    CAUSE,
    "HUGE",
    "the same of PMDs: each maps one huge page, and saves at most one fault",
    inspected=True,
    summed=True,
)
PMDS_LEFT_READONLY = Family(
    "pmds_left_readonly",
    "PMDs",
    "PMDs (huge pages) left read-only by a change that asked for writable ones.",
    PMD_REASON,
    "HUGE RO",
    "PMDs that stayed read-only where the change asked for writable ones, by reason: {values}",
    inspected=True,
)
PMDS_SPLIT = Family(
    "pmds_split",
    "PMDs",
    "PMDs (huge pages) split into PTEs: up to 512 write faults may follow, where one was.",
    None,
    "SPLIT",
    "huge pages whose PMD the kernel split into 512 PTEs, for whatever reason",
)
WRITE_FAULTS = Family(
    "write_faults",
    "faults",
    "Completed write faults: calls of handle_mm_fault() with FAULT_FLAG_WRITE.",
    OUTCOME,
    "FAULTS",
    "completed write faults: calls of `handle_mm_fault()` with `FAULT_FLAG_WRITE`, where an attempt"
    " that is to be repeated counts once, when it completes",
)
WP_PROTECTED_BY = Family(
    "wp_protected_by",
    "faults",
    "Write faults that met a write-protected page, by what had write-protected it.",
    PROTECTED_BY,
    meaning="what had write-protected the page of a `wp_reuse` or a `wp_copy` fault: {values}",
    outer=WP_OUTCOME,
    metric="wp_faults",
)
WRITE_FAULTS_ORIGIN = Family(
    "write_faults_origin",
    "faults",
    "Completed write faults by who wrote.",
    ORIGIN,
    meaning="write faults by who wrote: {values}",
)
PTES_PROTECTED_BY_FORK = Family(
    "ptes_protected_by_fork",
    "PTEs",
    "PTEs that fork() write-protected in the process that forks.",
    None,
    "FORKED",
    "PTEs that `fork()` write-protected, counted in the process that forks: each may cost it, and"
    " the new process, a write fault",
    inspected=True,
)
PMDS_PROTECTED_BY_FORK = Family(
    "pmds_protected_by_fork",
    "PMDs",
    "PMDs (huge pages) that fork() write-protected in the process that forks.",
    None,
    meaning="the same of PMDs, which map huge pages",
    inspected=True,
)
# In the order of the JSON document.
FAMILIES = (
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_INSPECTED,
    PTES_MADE_WRITABLE,
    PTES_LEFT_READONLY,
    PTES_NOT_INSPECTED,
    PMDS_MADE_WRITABLE,
    PMDS_LEFT_READONLY,
    PMDS_SPLIT,
    WRITE_FAULTS,
    WP_PROTECTED_BY,
    WRITE_FAULTS_ORIGIN,
    PTES_PROTECTED_BY_FORK,
    PMDS_PROTECTED_BY_FORK,
)
SIZE = sum(family.width for family in FAMILIES)
# What happened at all: a mapping without any of these is not shown.
EVENTS = (PROTECTION_CHANGES, WRITE_FAULTS)

CAUSES, OUTCOMES, ORIGINS, REASONS, PMD_REASONS, OMISSIONS = (
    label.names for label in (CAUSE, OUTCOME, ORIGIN, REASON, PMD_REASON, OMISSION)
)


def header() -> str:
    """The text of bpf/counters.h."""
    parts = [_PREAMBLE, *map(_enum, LABELS), _struct()]
    return "\n".join(parts)


_PREAMBLE = """\
/* SPDX-License-Identifier: GPL-2.0-only */
/* Written by `make layout` from pte_trace/counted/counters.py, where each counter is declared. */
"""


def _enum_name(label: Label) -> str:
    return label.enum or label.name


def _enum(label: Label) -> str:
    name = _enum_name(label)
    prefix = name.upper()
    members = "".join(f"\t{prefix}_{value.name.upper()},\n" for value in label.values)
    return f"/* {label.said} */\nenum {name} {{\n{members}\t{prefix}S\n}};\n"


def _struct() -> str:
    members = (
        f"\t__u64 {family.name}"
        + "".join(f"[{_enum_name(label).upper()}S]" for label in family.labels)
        + ";\n"
        for family in FAMILIES
    )
    return f"struct counters {{\n{''.join(members)}}};\n"
