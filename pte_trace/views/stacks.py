"""Stacks of write faults and protection changes: as lines, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from pte_trace.counted.mapping import JIT, Frame, Stack, VmaRow
from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import Effort
from pte_trace.views.printable import printable
from pte_trace.views.sentences import several

# Why a stack has no frames.
_ANOTHERS = "[another process or a kernel thread]"
_NO_FRAME = "[no address is known]"


def frame(of: Frame) -> str:
    if of.file is None:
        return f"[unknown] {of.address:#x}"
    if of.file == JIT:
        return f"{JIT} {of.address:#x}"
    place = of.address if of.offset is None else of.offset
    return f"{printable(of.function or hex(place))} ({printable(PurePath(of.file).name)})"


def frames(of: Stack) -> str:
    """Innermost first, each called by the one after it."""
    if of.frames:
        return " < ".join(map(frame, of.frames))
    return _ANOTHERS if of.event.origin == "remote" else _NO_FRAME


def why_unnamed(stacks: Iterable[Stack]) -> Iterator[str]:
    """Of each file in which a place has no name, why."""
    unnamed = (
        (printable(PurePath(each.file).name), each.unnamed)
        for stack in stacks
        for each in stack.frames
        if each.file and each.unnamed
    )
    for file, why in dict.fromkeys(unnamed):
        yield f"no name in {file}: {printable(why)}"


def writers(snapshot: Snapshot, most: int) -> Iterator[str]:
    """Who writes: the stacks of the most write faults, and what is to know of them."""
    if not snapshot.effort.stacks:
        return
    found = sorted(
        ((vma, stack) for vma, stack in snapshot.stacks if stack.event.is_fault),
        key=lambda each: -each[1].count,
    )
    if not found:
        return
    yield "Who writes, the most write faults first:"
    if said := sample(snapshot.effort):
        yield f"  {said}"
    shown = found[:most]
    for vma, stack in shown:
        yield f"  {stack.count:,} × {stack.event.value}, {stack.event.origin}: {frames(stack)}"
        yield f"      in {_mapping(vma)}"
    if hidden := len(found) - len(shown):
        yield f"  and {several(hidden, 'stack')} more"
    for line in why_unnamed(stack for _, stack in shown):
        yield f"  {line}"


def sample(effort: Effort) -> str:
    """Nothing where all are told."""
    if effort.stacks <= 1:
        return ""
    return f"These numbers are a sample: one of {effort.stacks:,} write faults has a stack."


def _mapping(vma: VmaRow) -> str:
    where = f"{vma.start:x}-{vma.end:x} " if vma.attributed else ""
    return f"{where}{printable(vma.name)} of {printable(vma.comm)} {vma.pid}"


def document(snapshot: Snapshot) -> dict[str, Any] | None:
    """None (null) where none were asked for."""
    if not snapshot.effort.stacks:
        return None
    return {
        "one_of": snapshot.effort.stacks,
        "lost": snapshot.health.stacks_full,
        "stacks": [_stack(vma, stack) for vma, stack in snapshot.stacks],
    }


def _stack(vma: VmaRow, stack: Stack) -> dict[str, Any]:
    counted, value, origin = stack.event
    return {
        "pid": vma.pid,
        "start": hex(vma.start),
        "end": hex(vma.end),
        "counted": counted,
        "cause": None if stack.event.is_fault else value,
        "outcome": value if stack.event.is_fault else None,
        "origin": origin,
        "count": stack.count,
        "frames": frames_document(stack.frames),
    }


def frames_document(of: Sequence[Frame]) -> list[dict[str, Any]]:
    return [
        {
            "address": hex(each.address),
            "function": each.function,
            "file": each.file,
            "file_address": None if each.offset is None else hex(each.offset),
            "unnamed": each.unnamed,
        }
        for each in of
    ]
