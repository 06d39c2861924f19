"""Stacks of write faults as a tree: what a flame graph draws.

A path leads from the process to what happened, the outermost function first. What happened is the
last part of it, so that a function has all of its faults, however they ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from pte_trace.counted.mapping import JIT, Frame, Stack, VmaRow
from pte_trace.counted.snapshot import Snapshot

Path = tuple[str, ...]
UNKNOWN = "[unknown]"


@dataclass(frozen=True)
class Node:
    """One part of many paths, with the numbers of all of them: of one recording, or of several.

    The children with the largest numbers come first. ``left_out``: so many more that have so little
    that they would not be seen are together in the last one, which has no name.
    """

    name: str
    numbers: tuple[float, ...]
    children: tuple[Node, ...] = ()
    left_out: int = 0

    @property
    def all(self) -> float:
        return sum(self.numbers)


def name(frame: Frame) -> str:
    """A function, whatever the place in it; or what else is known of the place."""
    if frame.file is None:
        return UNKNOWN
    if frame.file == JIT:
        return JIT
    if frame.name is not None:
        return frame.name
    place = frame.address if frame.offset is None else frame.offset
    return f"{PurePath(frame.file).name}+{place:#x}"


def path(vma: VmaRow, stack: Stack) -> Path:
    happened = f"{stack.event.value} {stack.event.origin} {vma.name}"
    return vma.comm, *map(name, reversed(stack.frames)), happened


def faults(snapshot: Snapshot) -> Counter[Path]:
    """How many write faults came by each path."""
    found: Counter[Path] = Counter()
    for vma, stack in snapshot.stacks:
        if stack.event.is_fault:
            found[path(vma, stack)] += stack.count
    return found


def tree(paths: Mapping[Path, tuple[float, ...]], least: float = 0.0) -> Node:
    """All *paths* in one; parts with less than the share *least* of all are put together."""
    whole = _added(paths)
    return _node("all", paths, whole, least * sum(whole))


def _added(paths: Mapping[Path, tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*paths.values(), strict=True)))


def _node(
    name: str, paths: Mapping[Path, tuple[float, ...]], numbers: tuple[float, ...], least: float
) -> Node:
    below: dict[str, dict[Path, tuple[float, ...]]] = {}
    for (first, *rest), of_path in ((path, each) for path, each in paths.items() if path):
        below.setdefault(first, {})[tuple(rest)] = of_path
    children: list[Node] = []
    small: dict[Path, tuple[float, ...]] = {}
    for child, of_child in below.items():
        added = _added(of_child)
        if sum(added) < least:
            small[child,] = added
        else:
            children.append(_node(child, of_child, added, least))
    children.sort(key=lambda node: (-node.all, node.name))
    if small:
        children.append(Node("", _added(small), left_out=len(small)))
    return Node(name, numbers, tuple(children))
