"""The story of each mapping: for a person, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pte_trace.counted.counters import (
    AVOIDABLE,
    CAUSES,
    PROTECTION_CHANGES,
    PTES_CHANGED,
    PTES_NOT_INSPECTED,
    WP_OUTCOME,
    WRITE_FAULTS,
)
from pte_trace.counted.counts import total
from pte_trace.counted.explanation import Explanation, Finding, Value
from pte_trace.counted.mapping import Event, Stack, VmaRow
from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import TABLES_PER_CHANGE, Effort
from pte_trace.host.behavior import Behavior
from pte_trace.views import document as snapshot_document
from pte_trace.views import sentences, stacks
from pte_trace.views.printable import printable
from pte_trace.views.sentences import several

Evidence = Mapping[str, Value]

_REUSE, _COPY, _OTHER = "write_faults.wp_reuse", "write_faults.wp_copy", "write_faults.other"
_CLEAN = "ptes_left_readonly.clean"
# What there is to say of every mapping of every program: told once for all of them.
_ORDINARY = {"no_pages", "not_asked", "fork", "never_writable", "unknown", "first_touch"}
# Faults on write-protected pages that starting a program and forking it may cost anyway.
_FEW = 100


@dataclass(frozen=True)
class _Said:
    """Of one kind of finding: what is so, what the counts cannot tell, what would change it.

    Without ``what`` it is what the summary of a snapshot says.
    """

    what: Callable[[Evidence], str] | None
    not_known: str | None = None
    remedy: str | None = None


def _several(evidence: Evidence, field: str, noun: str) -> str:
    return several(evidence[field] or 0, noun)


def _avoidable(evidence: Evidence) -> str:
    faults = (evidence.get(f"wp_protected_by.wp_reuse.{cause}") for cause in AVOIDABLE)
    return several(sum(each or 0 for each in faults), "avoidable fault")


def _clean(evidence: Evidence) -> str:
    said = f"{_several(evidence, _CLEAN, 'PTE')} stayed read-only: nothing was written to the page"
    said += " since it was mapped or cleaned"
    if evidence["behavior.clean_pages"] is False:
        said += ", and this kernel leaves such pages read-only"
    taken = (_several(evidence, _REUSE, "write"), _several(evidence, _COPY, "write"))
    return f"{said}. {taken[0]} then only needed the PTE changed, {taken[1]} had to copy."


def _met(evidence: Evidence, cause: str) -> str:
    """What became of the write faults that met a page that it had write-protected."""
    reused, copied = (
        int(evidence[f"wp_protected_by.{outcome}.{cause}"] or 0) for outcome in WP_OUTCOME.names
    )
    said = []
    if reused:
        said.append(f"{several(reused, 'write')} only needed the entry changed")
    if copied:
        said.append(f"{several(copied, 'write')} had to copy the page")
    return " and ".join(said)


def _fork(evidence: Evidence) -> str:
    ptes, pmds = (int(evidence.get(f"{each}_protected_by_fork") or 0) for each in ("ptes", "pmds"))
    said = f"fork() write-protected {sentences.entries(ptes, pmds)} here" if ptes or pmds else ""
    met = _met(evidence, "fork")
    if not met:
        return f"{said}; none was written to since."
    if not said:
        said = "A fork had write-protected pages here"
    return f"{said}; {met}. {_children(evidence)}"


def _left(evidence: Evidence, reason: str) -> str:
    """The entries that were left read-only for it."""
    ptes, pmds = (evidence.get(f"{each}_left_readonly.{reason}") or 0 for each in ("ptes", "pmds"))
    return sentences.entries(ptes, pmds)


def _children(evidence: Evidence) -> str:
    if traced := evidence["children_traced"]:
        copied, reused = (
            int(evidence.get(f"children_{outcome}") or 0) for outcome in ("wp_copy", "wp_reuse")
        )
        return f"Children: {traced:,} traced, which copied {copied:,} and reused {reused:,} here."
    if seen := evidence.get("children_seen"):
        return f"Children: {seen:,} seen while it was traced."
    return "No child of this process was seen: it may be the child, or its children are gone."


_SAID: Mapping[str, _Said] = {
    "saved": _Said(
        None,
        "How many of them were written to before the next change: the others saved nothing, and"
        " their entries do not tell. What was saved is the difference to the same program on a"
        " kernel without the optimization: pte-trace compare.",
    ),
    "not_attributed": _Said(
        lambda e: f"{_several(e, 'write_faults', 'write fault')} found no room for their mapping.",
        "Which mappings they belong to.",
        "More room: --max-vmas.",
    ),
    "no_optimization": _Said(
        lambda e: (
            "This kernel leaves PTEs read-only when protection is changed;"
            f" {_avoidable(e)} here only needed the PTE changed."
        ),
        remedy="Linux 6.0 or newer (commit 64fe24a3e05e), 6.2 for huge pages.",
    ),
    "not_inspected": _Said(
        lambda e: "No PTE was looked at (--inspect none).",
        "How many PTEs were made writable, and why others were not.",
        "Leave out --inspect none.",
    ),
    "omitted_limit": _Said(
        lambda e: (
            f"{_several(e, 'ptes_not_inspected.limit', 'changed PTE')} were not looked at"
            " (--inspect)."
        ),
        "Whether they were made writable.",
        "Leave out --inspect.",
    ),
    "omitted_beyond": _Said(
        lambda e: (
            f"{_several(e, 'ptes_not_inspected.limit', 'changed PTE')} were not looked at: of one"
            f" change no more than {TABLES_PER_CHANGE:,} page tables are."
        ),
        "Whether they were made writable.",
        "Changes of at most 8 GiB at a time.",
    ),
    "omitted_huge": _Said(
        lambda e: (
            f"{_several(e, 'ptes_not_inspected.huge', 'page')} lay in pages larger than 2 MiB,"
            " whose entries are not looked at."
        ),
        "Whether these were made writable.",
    ),
    "huge": _Said(
        lambda e: (
            f"{_several(e, 'pmds_left_readonly.huge', 'huge page')} stayed read-only: this kernel"
            " does not make huge pages writable when protection is changed."
            f" {_several(e, _REUSE, 'write')} then only needed the entry changed,"
            f" {_several(e, _COPY, 'write')} had to copy."
        ),
        remedy="Linux 6.2 or newer (c27f479ef542); or small pages there (madvise MADV_NOHUGEPAGE).",
    ),
    "hugetlb": _Said(
        lambda e: (
            "No kernel makes hugetlb pages writable when protection is changed (read up to Linux"
            f" 7.2). {_several(e, _REUSE, 'write')} then only needed the entry changed,"
            f" {_several(e, _COPY, 'write')} had to copy."
        ),
        remedy="Transparent huge pages (Linux 6.2 or newer), if they do as well.",
    ),
    "no_pages": _Said(
        lambda e: "Protection was changed where no page was mapped: there was nothing to save."
    ),
    "unprotect_asks_not": _Said(
        lambda e: (
            "Lifting userfaultfd's write protection did not ask for writable PTEs;"
            f" {_several(e, 'wp_protected_by.wp_reuse.uffd_unprotect', 'avoidable fault')}"
            " followed."
        ),
        remedy="Linux 6.3 or newer (commit 931298e103c2).",
    ),
    "not_asked": _Said(
        lambda e: (
            "No protection change asked for writable PTEs in a writable mapping: there was nothing"
            " to save."
        )
    ),
    "soft_dirty": _Said(
        lambda e: (
            "Soft-dirty tracking must see the next write to a page:"
            f" {_met(e, 'soft_dirty') or 'there was none'}. Protection changes left"
            f" {_left(e, 'soft_dirty')} read-only for it."
        ),
        "Who tracks: a checkpoint (CRIU), or whatever else wrote 4 to /proc/PID/clear_refs.",
        "No tracking of this process; memory mapped after the last clear_refs is not tracked.",
    ),
    "clean_shared": _Said(
        lambda e: (
            f"{_several(e, _CLEAN, 'PTE')} stayed read-only: the first write to a clean page of a"
            " shared mapping is reported to its file system."
        )
    ),
    "clean": _Said(
        _clean,
        remedy="Linux 6.2 or newer for those that did not copy (d84887739d5c); or write to the"
        " pages before the change.",
    ),
    "uffd_wp": _Said(
        lambda e: (
            "userfaultfd write protection is armed:"
            f" {_several(e, 'write_faults.wp_uffd', 'write fault')} went to its monitor,"
            f" {_left(e, 'uffd_wp')} stayed read-only for it after"
            " another change."
        ),
        remedy="The monitor lifting it (UFFDIO_WRITEPROTECT without MODE_WP) before the program"
        " writes.",
    ),
    "left_in_shared": _Said(
        lambda e: f"{_left(e, 'shared')} of a shared mapping stayed read-only.",
        "Why.",
    ),
    "not_exclusive": _Said(
        lambda e: (
            f"{_left(e, 'shared')} stayed read-only for want of a page that is this process's"
            " alone, and not a file's or the zero page."
        )
    ),
    "fork": _Said(
        _fork,
        "Whether another process has the page still. Before Linux 5.19 pages do not tell that they"
        " were shared: there it is a fork where one was seen, or the page was copied.",
        "vfork() or posix_spawn(), which copy no page tables; MADV_DONTFORK on this memory;"
        " gc.freeze() and fewer writes in what is forked. No protection change could save them.",
    ),
    "never_writable": _Said(
        lambda e: (
            "Of pages that were a file's or the zero page, mapped by a read,"
            f" {_met(e, 'never_writable')}. No protection change could save them."
        ),
        remedy="Writing to the pages before they are read.",
    ),
    "unexplained": _Said(
        lambda e: (
            f"{_avoidable(e)} here met pages that protection changes"
            " had write-protected. Those that were seen to ask for writable entries left"
            f" {_several(e, 'ptes_left_readonly', 'PTE')} and"
            f" {_several(e, 'pmds_left_readonly', 'huge page')} read-only, which does not explain"
            " all."
        ),
        "Why: a change before the trace, or one whose mapping has another range now.",
    ),
    "unknown": _Said(
        lambda e: f"{_met(e, 'unknown')}: what had write-protected it was not seen.",
        "What it was: a change before the trace, a page that was swapped in by a read, or KSM.",
    ),
    "tracked": _Said(
        lambda e: (
            f"{_several(e, 'write_faults.wp_tracked', 'write fault')} only noted that a page was"
            " written to: asynchronous userfaultfd tracking, which asks for just that."
        ),
        "Who tracks: what registered the memory with UFFD_FEATURE_WP_ASYNC (PAGEMAP_SCAN).",
    ),
    "uffd_missing": _Said(
        lambda e: (
            f"{_several(e, 'write_faults.uffd_missing', 'write fault')} met a missing page, which"
            " a userfaultfd monitor filled. No protection change could save them."
        )
    ),
    "split": _Said(
        lambda e: (
            f"{_several(e, 'pmds_split', 'huge page')} became small ones: up to 512 write faults"
            " may follow where one was."
        ),
        "Why: a change or an unmapping of a part, a write to a page that a fork shares, reclaim.",
    ),
    "shared_write": _Said(
        lambda e: (
            f"{_several(e, 'write_faults.wp_shared', 'write fault')} told a shared mapping's file"
            " system of the first write to a page."
        )
    ),
    "numa_hint": _Said(
        lambda e: (
            "NUMA balancing took the mapping's pages away"
            f" {_several(e, 'protection_changes.numa_hint', 'time')} to see who uses them."
        ),
        "How many PTEs of a large folio one fault gave back: one of them is counted.",
        "sysctl kernel.numa_balancing=0, if memory is where it is used anyway.",
    ),
    "first_touch": _Said(
        lambda e: (
            f"{_several(e, _OTHER, 'write fault')} never came to a write-protected page: first"
            " touch, swap-in or NUMA hint. No protection change could save them."
        )
    ),
    "error": _Said(
        lambda e: f"{_several(e, 'write_faults.error', 'write fault')} ended in an error.",
        "Which: SIGBUS, SIGSEGV, or no memory.",
    ),
}


def _what(finding: Finding, vma: VmaRow, snapshot: Snapshot) -> str:
    what = _SAID[finding.kind].what
    return what(finding.evidence) if what else sentences.saved(snapshot, vma.counts)


def _beside(finding: Finding) -> dict[str, str | None]:
    said = _SAID[finding.kind]
    return {"not_known": said.not_known, "remedy": said.remedy}


def report(snapshot: Snapshot, explanations: Iterable[Explanation]) -> RenderableType:
    """The story of each process's mappings; the ordinary ones together in a sentence."""
    by_image = sorted(explanations, key=lambda each: (each.vma.pid, each.vma.image))
    parts: list[RenderableType] = [sentences.heading(snapshot)]
    for (pid, _), found in groupby(by_image, lambda each: (each.vma.pid, each.vma.image)):
        parts += [Text(), *_process(pid, list(found), snapshot)]
    if snapshot.effort.stacks and "mmap_region" not in snapshot.hooks:
        parts.append(Text("mmap_region is not traceable here: code may not be named."))
    return Group(*parts, Text(), sentences.summary(snapshot), *sentences.notes(snapshot))


def _process(pid: int, found: list[Explanation], snapshot: Snapshot) -> Iterable[RenderableType]:
    vma = found[0].vma
    yield Text(f"Process {pid}, {printable(vma.comm)}", style="bold")
    if vma.cgroup:
        yield _indent(f"cgroup {printable(vma.cgroup)}", 2, "dim")
    ordinary = [each for each in found if _is_ordinary(each)]
    for explanation in found:
        if explanation not in ordinary:
            yield from (Text(), *_mapping(explanation, snapshot))
    if ordinary:
        yield from (Text(), _indent(_together(ordinary), 2))


def _is_ordinary(explanation: Explanation) -> bool:
    faults = explanation.vma.counts.by_name(WRITE_FAULTS)
    few = faults["wp_reuse"] + faults["wp_copy"] < _FEW
    return few and set(explanation.kinds) <= _ORDINARY


def _together(ordinary: list[Explanation]) -> str:
    totals = total(each.vma.counts for each in ordinary)
    by_outcome = totals.by_name(WRITE_FAULTS).items()
    outcomes = ", ".join(f"{number:,} {name}" for name, number in by_outcome if number)
    return (
        f"{several(len(ordinary), 'further mapping')}, where no write fault came of a protection"
        f" change that was seen: {several(totals.sum(PROTECTION_CHANGES), 'change')},"
        f" {several(totals.sum(WRITE_FAULTS), 'write fault')}"
        f"{f' ({outcomes})' if outcomes else ''}."
    )


def _mapping(explanation: Explanation, snapshot: Snapshot) -> Iterable[RenderableType]:
    vma = explanation.vma
    yield _indent(f"{vma.start:x}-{vma.end:x}  {vma.perms}  {printable(vma.name)}", 2, "bold")
    for cause, changes, ptes in zip(
        CAUSES, vma.counts[PROTECTION_CHANGES], vma.counts[PTES_CHANGED], strict=True
    ):
        if changes:
            yield _indent(
                f"Changed by {cause} {several(changes, 'time')}, {several(ptes, 'PTE')}.", 4
            )
            if snapshot.effort.stacks:
                yield from _calls(vma, cause, changes, snapshot.effort)
    for finding in explanation.findings:
        yield _indent(_what(finding, vma, snapshot), 4)
        evidence = ", ".join(f"{name} = {_value(v)}" for name, v in finding.evidence.items())
        yield _indent(f"evidence: {evidence}", 8, "dim")
        for name, said in _beside(finding).items():
            if said:
                yield _indent(f"{name.replace('_', ' ')}: {said}", 8)
    yield from _writers(vma, snapshot.effort)


def _calls(vma: VmaRow, cause: str, changes: int, effort: Effort) -> Iterable[RenderableType]:
    """The calls behind so many *changes*; another process or the kernel itself made the rest."""
    found = [each for each in vma.stacks if each.event == Event(PROTECTION_CHANGES.name, cause)]
    for stack in found:
        yield _indent(f"{stack.count:,} × {stacks.frames(stack)}", 8)
    yield from _unnamed(found)
    others = changes - sum(stack.count for stack in found)
    if effort.stacks > 1:
        yield _indent(f"a sample: of one of {effort.stacks:,} changes is told", 8, "dim")
    elif others > 0:
        yield _indent(f"{others:,} × [no call of this process is known]", 8)


def _writers(vma: VmaRow, effort: Effort) -> Iterable[RenderableType]:
    """From where the mapping was written to, by outcome and origin."""
    found = [each for each in vma.stacks if each.event.is_fault]
    sample = "" if effort.stacks == 1 else f", a sample: one of {effort.stacks:,}"
    for outcome, faults in vma.counts.by_name(WRITE_FAULTS).items():
        of_outcome = [each for each in found if each.event.value == outcome]
        if not faults or not of_outcome:
            continue
        yield _indent(f"{several(faults, 'write fault')} ({outcome}), by who wrote{sample}:", 4)
        for stack in of_outcome:
            said = f"{stack.count:,} × {stack.event.origin}: {stacks.frames(stack)}"
            yield _indent(said, 8)
    yield from _unnamed(found)


def _unnamed(found: Iterable[Stack]) -> Iterator[RenderableType]:
    for line in stacks.why_unnamed(found):
        yield _indent(line, 8, "dim")


def _indent(text: str, by: int, style: str = "") -> Padding:
    return Padding.indent(Text(text, style=style), by)


def _value(value: Value) -> str:
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else f"{value:,}"


def write_json(
    snapshot: Snapshot, behavior: Behavior, explanations: Iterable[Explanation], stream: IO[str]
) -> None:
    """The document of `run`, what the kernel was found to do, and every mapping's story."""
    json.dump(
        {
            **snapshot_document.document(snapshot),
            "behavior": asdict(behavior),
            "explanations": [_explanation(each, snapshot) for each in explanations],
        },
        stream,
    )
    stream.write("\n")


def _explanation(explanation: Explanation, snapshot: Snapshot) -> dict[str, Any]:
    vma, effort = explanation.vma, snapshot.effort
    seconds = snapshot.seconds_saved(vma.counts)
    omitted = vma.counts.by_name(PTES_NOT_INSPECTED)
    return {
        "pid": vma.pid,
        "start": hex(vma.start),
        "end": hex(vma.end),
        "name": vma.name,
        "cgroup": vma.cgroup or None,
        "ptes_not_inspected": omitted if effort.inspects else None,
        "seconds_saved_at_most": seconds,
        "call_sites": [_call_site(each) for each in vma.stacks if not each.event.is_fault]
        if effort.stacks
        else None,
        "findings": [
            {
                "finding": finding.kind,
                "what": _what(finding, vma, snapshot),
                "evidence": finding.evidence,
                **_beside(finding),
            }
            for finding in explanation.findings
        ],
    }


def _call_site(stack: Stack) -> dict[str, Any]:
    return {
        "cause": stack.event.value,
        "calls": stack.count,
        "frames": stacks.frames_document(stack.frames),
    }
