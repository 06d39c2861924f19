"""Stacks as pprof and what reads its profiles take them: profile.proto, compressed.

A place is told by its address in its file, as the file itself has it, so that the same place of
two processes is one.
"""

from __future__ import annotations

import gzip
from typing import IO, Any

from pte_trace import __version__
from pte_trace.counted import flames
from pte_trace.counted.mapping import JIT, Frame, Stack, VmaRow
from pte_trace.counted.snapshot import Snapshot
from pte_trace.views import sentences
from pte_trace.views.printable import printable
from pte_trace.views.profile_proto import Profile

FAULTS, CALLS = "faults", "calls"
_UNIT = "count"


class _Writer:
    """A profile as it is filled: what it has one of is made once, and called by its number."""

    def __init__(self) -> None:
        self.profile = Profile()
        self._strings: dict[str, int] = {}
        self._ids: dict[tuple[Any, ...], int] = {}
        self.text("")  # the first string must be

    def text(self, text: str) -> int:
        if text not in self._strings:
            self._strings[text] = len(self._strings)
            self.profile.string_table.append(text)
        return self._strings[text]

    def _id(self, table: str, *key: Any) -> tuple[int, bool]:
        """The number of what is in a *table* under *key*, and whether it is new there."""
        known = self._ids.get((table, *key))
        if known is None:
            self._ids[table, *key] = known = len(getattr(self.profile, table)) + 1
            return known, True
        return known, False

    def _function(self, name: str) -> int:
        number, new = self._id("function", name)
        if new:
            text = self.text(name)
            self.profile.function.add(id=number, name=text, system_name=text)
        return number

    def _mapping(self, file: str) -> int:
        number, new = self._id("mapping", file)
        if new:
            self.profile.mapping.add(id=number, filename=self.text(file), has_functions=True)
        return number

    def _location(self, frame: Frame) -> int:
        mapping = 0
        if frame.file is not None and frame.file != JIT:
            mapping = self._mapping(printable(frame.file))
        address = frame.address if frame.offset is None else frame.offset
        number, new = self._id("location", mapping, address, frame.function)
        if new:
            name = self._function(printable(flames.name(frame)))
            location = self.profile.location.add(id=number, mapping_id=mapping, address=address)
            location.line.add(function_id=name)
            if mapping:
                of = self.profile.mapping[mapping - 1]
                of.memory_limit = max(of.memory_limit, address + 1)
        return number

    def _own_location(self, name: str) -> int:
        """Of a stack without frames: what is known instead."""
        number, new = self._id("location", name)
        if new:
            location = self.profile.location.add(id=number)
            location.line.add(function_id=self._function(name))
        return number

    def sample(self, vma: VmaRow, stack: Stack) -> None:
        is_fault = stack.event.is_fault
        values = [stack.count, 0] if is_fault else [0, stack.count]
        where = [self._location(frame) for frame in stack.frames]
        without = f"[{stack.event.origin or 'unknown'}]"
        sample = self.profile.sample.add(
            location_id=where or [self._own_location(without)], value=values
        )
        labels = {
            "outcome" if is_fault else "cause": stack.event.value,
            "origin": stack.event.origin,
            "mapping": printable(vma.name),
            "comm": printable(vma.comm),
        }
        for key, value in labels.items():
            if value is not None:
                sample.label.add(key=self.text(key), str=self.text(value))
        sample.label.add(key=self.text("pid"), num=vma.pid)


def profile(snapshot: Snapshot) -> Any:
    """The message. ``period`` is of how many faults and calls one is in it."""
    made = _Writer()
    count = made.text(_UNIT)
    for kind in (FAULTS, CALLS):
        made.profile.sample_type.add(type=made.text(kind), unit=count)
    made.profile.default_sample_type = made.text(FAULTS)
    made.profile.period_type.type = made.text(FAULTS)
    made.profile.period_type.unit = count
    made.profile.period = snapshot.effort.stacks
    made.profile.duration_nanos = round(snapshot.duration_s * 1e9)
    said = [f"pte-trace {__version__}: {sentences.kernel(snapshot.kernel)}"]
    if snapshot.effort.stacks > 1:
        said.append(f"A sample: one of {snapshot.effort.stacks:,} faults and calls.")
    made.profile.comment.extend(map(made.text, said))
    for vma, stack in snapshot.stacks:
        made.sample(vma, stack)
    return made.profile


def write(snapshot: Snapshot, stream: IO[bytes]) -> None:
    stream.write(gzip.compress(profile(snapshot).SerializeToString(deterministic=True), mtime=0))
