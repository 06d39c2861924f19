"""The stacks behind protection changes and write faults: from the addresses noted to names.

Where the stack's frames are comes from the kernel, which follows frame pointers. A function
that was compiled without them hides its caller; what called into the kernel is never lost, nor is
the instruction that wrote, nor the caller of the C library's mprotect(), which the word on top of
the stack tells.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from pte_trace.counted.counters import CAUSES, ORIGINS, OUTCOMES, PROTECTION_CHANGES, WRITE_FAULTS
from pte_trace.counted.mapping import JIT, Event, Frame, Stack
from pte_trace.counted.packed import DELETED, LAYOUT, ReadFile, VmaKey, file_name

# A program may come to a place in as many ways as there is room for in the kernel's table.
_MOST_STACKS = 4096
_MOST_COLLECTED = 1 << 15
# A process's forebears, as far as their memory may be its own.
_MOST_FOREBEARS = 64
_MOST_MAPPINGS = 1 << 16
_LOWEST_ADDRESS = 0x10000  # sysctl vm.mmap_min_addr
_MAPS_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ..x. ([0-9a-f]+) ([0-9a-f]+):([0-9a-f]+) (\d+) *(.*)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """Executable memory: addresses, and what of which file is there (inode 0: no file).

    ``image`` is None where it is not known which of the process's programs it belongs to.
    """

    pid: int
    image: int | None
    start: int
    end: int
    offset: int
    inode: int
    dev: int
    name: str


class Place(NamedTuple):
    """An instruction in a file, by what of the file is mapped and an offset in it.

    ``after``: how far behind that the address is by which it is told.
    """

    mapping: CodeMapping
    offset: int
    after: int = 1


class Named(NamedTuple):
    """What is at a place: the function, as in ``main+0x1c``, and the address as the file has it.

    None is what is not known; ``why`` there is no function.
    """

    function: str | None = None
    address: int | None = None
    why: str | None = None


Symbolize = Callable[[Place], Named]

# A mapping, and whether it came before or after others.
_Part = tuple[int, CodeMapping]
_Key = TypeVar("_Key")


class RawStack(NamedTuple):
    """A stack as addresses: see ``struct call_site``."""

    vma: VmaKey
    event: Event
    stack_top: int
    frames: tuple[int, ...]


RawStacks = Mapping[RawStack, int]


class Code:
    """The executable memory of the traced processes. Of two that overlap the later one holds.

    Of very many mappings the newest are kept: what each process maps anew is noted.
    """

    def __init__(
        self,
        mappings: Iterable[CodeMapping] = (),
        parents: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        """*parents* are PIDs by PID: a process that was forked has its parent's memory."""
        self._parents = dict(parents)
        self._newest: deque[CodeMapping] = deque(maxlen=_MOST_MAPPINGS)
        self._forget()
        self.note(mappings)

    def _forget(self) -> None:
        self._number = 0
        self._by_image: dict[tuple[int, int | None], _Memory] = defaultdict(_Memory)
        self._by_pid: dict[int, _Memory] = defaultdict(_Memory)
        self._images: dict[int, set[int | None]] = defaultdict(set)

    def note(self, mappings: Iterable[CodeMapping]) -> None:
        """They came after all that were noted before."""
        for mapping in mappings:
            self._newest.append(mapping)
            self._put(mapping)
        if self._number > 2 * _MOST_MAPPINGS:
            self._forget()
            for mapping in self._newest:
                self._put(mapping)

    def _put(self, mapping: CodeMapping) -> None:
        self._number += 1
        self._by_image[mapping.pid, mapping.image].put(self._number, mapping)
        self._by_pid[mapping.pid].put(self._number, mapping)
        self._images[mapping.pid].add(mapping.image)

    def note_parents(self, parents: Mapping[int, int]) -> None:
        self._parents |= parents

    def runs_another(self, pid: int, image: int) -> bool:
        """Whether what the process maps now may be another program's."""
        return bool(self._images[pid] - {image, None}) if pid in self._images else False

    def find(self, pid: int, image: int, address: int) -> CodeMapping | None:
        """What is at *address* of a process's program."""
        own = (self._at(self._by_image, (pid, each), address) for each in (image, None))
        found = max(filter(None, own), key=itemgetter(0), default=None)
        for _ in range(_MOST_FOREBEARS):
            if found or pid not in self._parents:
                break
            pid = self._parents[pid]
            found = self._at(self._by_pid, pid, address)
        return found[1] if found else None

    @staticmethod
    def _at(memories: Mapping[_Key, _Memory], key: _Key, address: int) -> _Part | None:
        return memories[key].at(address) if key in memories else None


class _Memory:
    """What is where: parts that do not overlap, in order of address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._parts: list[_Part] = []

    def put(self, order: int, mapping: CodeMapping) -> None:
        """In the place of what was there."""
        start, end = mapping.start, mapping.end
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end, lo=first)
        placed = [(start, end, (order, mapping))]
        if first < last:
            before = (self._starts[first], start, self._parts[first])
            after = (end, self._ends[last - 1], self._parts[last - 1])
            placed = [each for each in (before, *placed, after) if each[0] < each[1]]
        if start < end:
            starts, ends, parts = zip(*placed, strict=True)
            self._starts[first:last] = starts
            self._ends[first:last] = ends
            self._parts[first:last] = parts

    def at(self, address: int) -> _Part | None:
        place = bisect_right(self._starts, address) - 1
        return self._parts[place] if place >= 0 and address < self._ends[place] else None


def decode_stacks(keys: bytes, values: bytes, count: int) -> Counter[RawStack]:
    """How often each was counted, of packed structs call_site and their numbers."""
    sites = LAYOUT.ffi.from_buffer("struct call_site[]", keys)
    numbers = LAYOUT.ffi.from_buffer("uint64_t[]", values)
    found: Counter[RawStack] = Counter()
    for index in range(count):
        site, vma = sites[index], sites[index].vma
        key = (vma.tgid, vma.image, vma.start, vma.end, vma.inode, vma.dev, bool(vma.shared))
        frames = tuple(address for address in site.frames if address)
        found[RawStack(key, _event(site), site.stack_top, frames)] += numbers[index]
    return found


def _event(site: Any) -> Event:
    if site.event == LAYOUT.ffi.integer_const("EVENT_CHANGE"):
        return Event(PROTECTION_CHANGES.name, CAUSES[site.what])
    return Event(WRITE_FAULTS.name, OUTCOMES[site.what], ORIGINS[site.origin])


def decode_code(
    keys: bytes, values: bytes, count: int, read_file: ReadFile
) -> Iterator[CodeMapping]:
    """Packed structs code_key and code_record, the oldest first."""
    all_keys = LAYOUT.ffi.from_buffer("struct code_key[]", keys)
    all_values = LAYOUT.ffi.from_buffer("struct code_record[]", values)
    for index in sorted(range(count), key=lambda index: all_values[index].mapped_ns):
        key, value = all_keys[index], all_values[index]
        name = JIT
        if value.inode:
            name = file_name(value.inode, value.dev, value.path, read_file)
        yield CodeMapping(
            key.tgid, key.image, key.start, value.end, value.offset, value.inode, value.dev, name
        )


def code_in(lines: Iterable[bytes], pid: int) -> Iterator[CodeMapping]:
    """From the lines of a /proc/PID/maps (proc_pid_maps(5)), whose names may hold anything else."""
    for line in lines:
        if found := _MAPS_LINE.fullmatch(line.decode("utf-8", "backslashreplace")):
            start, end, offset, major, minor = (int(each, 16) for each in found.groups()[:5])
            inode, name = found.groups()[5:]
            named = name if name.startswith(("/", "[v")) else JIT
            dev = major << 20 | minor
            yield CodeMapping(pid, None, start, end, offset, int(inode), dev, named)


def shortened(stacks: RawStacks) -> Counter[RawStack]:
    """*stacks*, where there are very many: those counted most often as they are.

    Of the others where it happened is all that is kept, and what is alike then is one.
    """
    return _cut(Counter(stacks), lambda stack: stack._replace(stack_top=0, frames=stack.frames[:1]))


def _cut(numbers: Counter[_Key], shorter: Callable[[_Key], _Key]) -> Counter[_Key]:
    """The largest of *numbers*, and the others by what is *shorter* than their keys."""
    ranked = numbers.most_common()
    kept = Counter(dict(ranked[:_MOST_STACKS]))
    for key, number in ranked[_MOST_STACKS:]:
        kept[shorter(key)] += number
    return kept


def by_vma(stacks: RawStacks, code: Code, symbolize: Symbolize) -> dict[VmaKey, list[Stack]]:
    """The stacks with names, by VMA.

    *symbolize* names what is at a place: one of `places`.
    """
    found: dict[VmaKey, list[Stack]] = defaultdict(list)
    for stack, number in stacks.items():
        frames = tuple(_frames(stack, code, symbolize))
        found[stack.vma].append(Stack(stack.event, frames, number))
    return found


class Collected:
    """Stacks with names, added up by VMA as rows of mappings come."""

    def __init__(self) -> None:
        self._numbers: Counter[tuple[VmaKey, Event, tuple[Frame, ...]]] = Counter()

    def add(self, vma: VmaKey, stacks: Iterable[Stack]) -> None:
        for stack in stacks:
            self._numbers[vma, stack.event, stack.frames] += stack.count
        if len(self._numbers) > _MOST_COLLECTED:
            self._numbers = _cut(self._numbers, lambda key: (*key[:2], key[2][:1]))

    def by_vma(self) -> dict[VmaKey, list[Stack]]:
        found: dict[VmaKey, list[Stack]] = defaultdict(list)
        for (vma, event, frames), number in self._numbers.items():
            found[vma].append(Stack(event, frames, number))
        return found


def together(stacks: Iterable[Stack]) -> tuple[Stack, ...]:
    """One for each event and frames, with the numbers of all; the largest first."""
    numbers: Counter[tuple[Event, tuple[Frame, ...]]] = Counter()
    for stack in stacks:
        numbers[stack.event, stack.frames] += stack.count
    return tuple(Stack(*which, number) for which, number in numbers.most_common())


def _frames(stack: RawStack, code: Code, symbolize: Symbolize) -> Iterator[Frame]:
    """Where it happened, its caller, and on as far as frame pointers lead to code."""
    pid, image, *_ = stack.vma

    def frame(address: int, after: int = 1) -> Frame:
        mapping = code.find(pid, image, address - after)
        return _frame(address, mapping, after, symbolize) if mapping else Frame(address)

    inner, *others = stack.frames or (0,)
    if inner:
        # The instruction that wrote is at its address; one that called is before it.
        yield frame(inner, 0 if stack.event.origin == "user" else 1)
    if stack.stack_top and stack.stack_top not in others[:1]:
        caller = frame(stack.stack_top)
        # Not code: no return address, but what the function that called the kernel keeps there.
        if caller.file:
            yield caller
    for each in map(frame, others):
        if each.file or each.address >= _LOWEST_ADDRESS:
            yield each
        if each.file is None:
            return


def _frame(address: int, mapping: CodeMapping, after: int, symbolize: Symbolize) -> Frame:
    if not mapping.inode:
        return Frame(address, mapping.name)
    if mapping.name.endswith(DELETED):
        return Frame(address, mapping.name, unnamed="the file was deleted")
    # A call may be the last instruction of its function: what comes after it is another.
    offset = address - mapping.start + mapping.offset - after
    named = symbolize(Place(mapping, offset, after))
    return Frame(address, mapping.name, named.address, named.function, named.why)


def of_unknown_code(stacks: Iterable[RawStack], code: Code) -> set[tuple[int, int]]:
    """The programs, by PID and image, of which it is not known what is where the stacks begin."""
    found = {
        (stack.vma[0], stack.vma[1])
        for stack in stacks
        if stack.frames and code.find(*stack.vma[:2], stack.frames[0]) is None
    }
    return {each for each in found if not code.runs_another(*each)}


def places(stacks: Iterable[RawStack], code: Code) -> set[Place]:
    """Where in files the stacks lead through: what there is to be named."""
    found: set[Place] = set()

    def note(place: Place) -> Named:
        found.add(place)
        return Named()

    for stack in stacks:
        for _ in _frames(stack, code, note):
            pass
    return found
