"""The story of each mapping: for a person, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import PurePath
from typing import IO, Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pte_trace.behavior import Behavior
from pte_trace.effort import TABLES_PER_CHANGE
from pte_trace.explanation import Explanation, Finding, Value
from pte_trace.records import CAUSES, JIT, OMISSIONS, OUTCOMES, CallSite, Frame
from pte_trace.snapshot import Snapshot, VmaRow, total
from pte_trace.views import document as snapshot_document
from pte_trace.views import sentences
from pte_trace.views.printable import printable
from pte_trace.views.sentences import several

Evidence = Mapping[str, Value]

_REUSE, _COPY, _OTHER = "write_faults.wp_reuse", "write_faults.wp_copy", "write_faults.other"
_SHARED, _CLEAN = "ptes_left_readonly.shared", "ptes_left_readonly.clean"
# What there is to say of every mapping of every program: told once for all of them.
_ORDINARY = {"no_pages", "not_asked", "no_change", "first_touch"}
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


def _clean(evidence: Evidence) -> str:
    said = f"{_several(evidence, _CLEAN, 'PTE')} stayed read-only: nothing was written to the page"
    said += " since it was mapped or cleaned"
    if evidence["behavior.clean_pages"] is False:
        said += ", and this kernel leaves such pages read-only"
    taken = (_several(evidence, _REUSE, "write"), _several(evidence, _COPY, "write"))
    return f"{said}. {taken[0]} then only needed the PTE changed, {taken[1]} had to copy."


def _not_alone(evidence: Evidence) -> str:
    copied = f"{_several(evidence, _COPY, 'write')} had to copy a page."
    if not evidence[_SHARED]:
        return copied
    return (
        f"{_several(evidence, _SHARED, 'PTE')} stayed read-only for want of a page that is this"
        f" process's alone; {copied}"
    )


def _children(evidence: Evidence) -> str:
    if traced := evidence["children_traced"]:
        return f"{traced:,} traced"
    return f"{evidence['children_seen']:,} seen while it was traced"


_SAID: Mapping[str, _Said] = {
    "saved": _Said(None),
    "not_attributed": _Said(
        lambda e: f"{_several(e, 'write_faults', 'write fault')} found no room for their mapping.",
        "Which mappings they belong to.",
        "More room: --max-vmas.",
    ),
    "no_optimization": _Said(
        lambda e: (
            "This kernel leaves PTEs read-only when protection is changed;"
            f" {_several(e, _REUSE, 'avoidable fault')} here only needed the PTE changed."
        ),
        "Which of them a change is to blame for, and which a fork whose child is gone, or reclaim.",
        remedy="Linux 6.0 or newer (commit 64fe24a3e05e).",
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
            f"{_several(e, 'ptes_not_inspected.huge', 'page')} lay in huge pages, which have no"
            " PTEs to look at."
        ),
        "Whether the huge pages were made writable: kernels do so since 6.2 (c27f479ef542).",
        "Without huge pages (madvise MADV_NOHUGEPAGE) each page has a PTE.",
    ),
    "no_pages": _Said(
        lambda e: "Protection was changed where no page was mapped yet: there was nothing to save."
    ),
    "unprotect_asks_not": _Said(
        lambda e: (
            "Lifting userfaultfd's write protection did not ask for writable PTEs;"
            f" {_several(e, _REUSE, 'avoidable fault')} followed."
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
            f"{_several(e, 'ptes_left_readonly.soft_dirty', 'PTE')} stayed read-only: soft-dirty"
            " tracking must see the next write."
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
            f" {_several(e, 'ptes_left_readonly.uffd_wp', 'PTE')} stayed read-only for it after"
            " another change."
        ),
        remedy="The monitor lifting it (UFFDIO_WRITEPROTECT without MODE_WP) before the program"
        " writes.",
    ),
    "left_in_shared": _Said(
        lambda e: f"{_several(e, _SHARED, 'PTE')} of a shared mapping stayed read-only.",
        "Why.",
    ),
    "file_pages": _Said(
        _not_alone,
        "Which of them were the file's own pages and which were shared with another process.",
        "Writing to the pages before the change: then they are copies of the process's own.",
    ),
    "not_written_before": _Said(
        lambda e: f"{_not_alone(e)} No first write to this mapping was seen before.",
        "Whether its pages were only read so far (the zero page), or were there before the trace:"
        " written earlier, or inherited by a fork.",
        "Writing to the pages before the change, and no other process that has them.",
    ),
    "fork": _Said(
        lambda e: (
            f"{_not_alone(e)} The process had children ({_children(e)}): a forked one shares memory"
            " until it writes to it or executes a program."
        ),
        "Whether a child was alive, and shared the page, when protection was changed, or it was"
        " something else: a page merged by KSM, one only read so far, before Linux 5.18 one still"
        " in a CPU's LRU batch.",
        "No living fork at the time of the change (vfork or posix_spawn share without copying), or"
        " MADV_DONTFORK on this memory.",
    ),
    "not_exclusive": _Said(
        _not_alone,
        "With whom: another process of a fork that is not traced or was gone before it was seen, a"
        " page merged by KSM, one only read so far, before Linux 5.18 one still in a CPU's LRU"
        " batch.",
        "No living fork at the time of the change, or MADV_DONTFORK on this memory.",
    ),
    "unexplained": _Said(
        lambda e: (
            "Protection changes left"
            f" {_several(e, 'ptes_left_readonly', 'PTE')} read-only, and"
            f" {_several(e, _COPY, 'write')} had to copy: that does not explain"
            f" {_several(e, _REUSE, 'avoidable fault')}."
        ),
        "What took the write permission: a fork whose child is gone, clear_refs, reclaim, KSM,"
        " migration, or a change before the trace.",
    ),
    "no_change": _Said(
        lambda e: (
            "No protection change left write-protected pages here, yet"
            f" {_several(e, _REUSE, 'write')} only needed the PTE changed,"
            f" {_several(e, _COPY, 'write')} had to copy the page."
        ),
        "What made them so: a file's page or the zero page written for the first time, a fork,"
        " clear_refs, reclaim, KSM, or a change before the trace.",
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
        remedy="sysctl kernel.numa_balancing=0, if memory is where it is used anyway.",
    ),
    "first_touch": _Said(
        lambda e: (
            f"{_several(e, _OTHER, 'write fault')} never came to a write-protected page: first"
            " touch, swap-in, huge page or NUMA hint. No protection change could save them."
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
    yield Text(f"Process {pid}, {printable(found[0].vma.comm)}", style="bold")
    ordinary = [each for each in found if _is_ordinary(each)]
    for explanation in found:
        if explanation not in ordinary:
            yield from (Text(), *_mapping(explanation, snapshot))
    if ordinary:
        yield from (Text(), _indent(_together(ordinary), 2))


def _is_ordinary(explanation: Explanation) -> bool:
    faults = dict(zip(OUTCOMES, explanation.vma.counts.write_faults, strict=True))
    few = faults["wp_reuse"] + faults["wp_copy"] < _FEW
    return few and set(explanation.kinds) <= _ORDINARY


def _together(ordinary: list[Explanation]) -> str:
    totals = total(each.vma.counts for each in ordinary)
    by_outcome = zip(OUTCOMES, totals.write_faults, strict=True)
    outcomes = ", ".join(f"{number:,} {name}" for name, number in by_outcome if number)
    return (
        f"{several(len(ordinary), 'further mapping')}, where no write fault is known to come of a"
        f" protection change: {several(sum(totals.changes), 'change')},"
        f" {several(sum(totals.write_faults), 'write fault')}"
        f"{f' ({outcomes})' if outcomes else ''}."
    )


def _mapping(explanation: Explanation, snapshot: Snapshot) -> Iterable[RenderableType]:
    vma = explanation.vma
    yield _indent(f"{vma.start:x}-{vma.end:x}  {vma.perms}  {printable(vma.name)}", 2, "bold")
    for cause, changes, ptes in zip(
        CAUSES, vma.counts.changes, vma.counts.ptes_changed, strict=True
    ):
        if changes:
            yield _indent(
                f"Changed by {cause} {several(changes, 'time')}, {several(ptes, 'PTE')}.", 4
            )
            if snapshot.effort.stacks:
                yield from _calls(vma, cause, changes)
    for finding in explanation.findings:
        yield _indent(_what(finding, vma, snapshot), 4)
        evidence = ", ".join(f"{name} = {_value(v)}" for name, v in finding.evidence.items())
        yield _indent(f"evidence: {evidence}", 8, "dim")
        for name, said in _beside(finding).items():
            if said:
                yield _indent(f"{name.replace('_', ' ')}: {said}", 8)


def _calls(vma: VmaRow, cause: str, changes: int) -> Iterable[RenderableType]:
    """The calls behind so many *changes*; another process or the kernel itself made the rest."""
    sites = [site for site in vma.call_sites if site.cause == cause]
    for site in sites:
        yield _indent(f"{site.calls:,} × {' < '.join(map(_frame, site.frames))}", 8)
    others = changes - sum(site.calls for site in sites)
    if others > 0:
        yield _indent(f"{others:,} × [no call of this process is known]", 8)


def _indent(text: str, by: int, style: str = "") -> Padding:
    return Padding.indent(Text(text, style=style), by)


def _value(value: Value) -> str:
    if value is None:
        return "unknown"
    return str(value).lower() if isinstance(value, bool) else f"{value:,}"


def _frame(frame: Frame) -> str:
    if frame.file is None:
        return f"[unknown] {frame.address:#x}"
    if frame.file == JIT:
        return f"{JIT} {frame.address:#x}"
    place = frame.address if frame.offset is None else frame.offset
    file = printable(PurePath(frame.file).name)
    return f"{printable(frame.function or hex(place))} ({file})"


def write_json(
    snapshot: Snapshot, behavior: Behavior, explanations: Iterable[Explanation], stream: IO[str]
) -> None:
    """The document of `run`, what the kernel was found to do, and every mapping's story."""
    json.dump(
        {
            **snapshot_document.document(snapshot),
            "behavior": asdict(behavior),
            "stacks": {"lost": snapshot.health.stacks_full} if snapshot.effort.stacks else None,
            "explanations": [_explanation(each, snapshot) for each in explanations],
        },
        stream,
    )
    stream.write("\n")


def _explanation(explanation: Explanation, snapshot: Snapshot) -> dict[str, Any]:
    vma, effort = explanation.vma, snapshot.effort
    seconds = snapshot.seconds_saved(vma.counts)
    omitted = dict(zip(OMISSIONS, vma.counts.not_inspected, strict=True))
    return {
        "pid": vma.pid,
        "start": hex(vma.start),
        "end": hex(vma.end),
        "name": vma.name,
        "ptes_not_inspected": omitted if effort.inspects else None,
        "seconds_saved_at_most": seconds,
        "call_sites": [_call_site(site) for site in vma.call_sites] if effort.stacks else None,
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


def _call_site(site: CallSite) -> dict[str, Any]:
    frames = [
        {
            "address": hex(frame.address),
            "function": frame.function,
            "file": frame.file,
            "file_address": None if frame.offset is None else hex(frame.offset),
        }
        for frame in site.frames
    ]
    return {"cause": site.cause, "calls": site.calls, "frames": frames}
