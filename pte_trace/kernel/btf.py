"""Read the types of a kernel from its BTF.

The format is documented in the kernel's Documentation/bpf/btf.rst. Only what
the tool asks of a kernel is read: where a struct keeps a member, what a
function's parameters are called, which names an enum has.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pte_trace.errors import HostError

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE_WORDS = 3

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF = range(1, 9)
_VOLATILE, _CONST, _RESTRICT, _FUNC, _FUNC_PROTO, _VAR, _DATASEC = range(9, 16)
_FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(16, 20)

_FIXED_WORDS = {_INT: 1, _ARRAY: 3, _VAR: 1, _DECL_TAG: 1}
_WORDS_PER_ENTRY = {_STRUCT: 3, _UNION: 3, _ENUM: 2, _FUNC_PROTO: 2, _DATASEC: 3, _ENUM64: 3}
_MODIFIERS = {_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG}
_COMPOSITES = {_STRUCT, _UNION}
_POINTER_SIZE = 8
_MOST_NESTING = 64
_VOID = -1  # the position of type 0, which stands for void and is not in the section


class Member(NamedTuple):
    """Where a struct keeps one member.

    ``offset`` and ``size`` are in bytes. ``points_to`` is the C type a pointer
    member leads to (``struct x``, or ``void`` for anything else), None for no pointer.
    ``embeds`` is the name of the struct a member is, None for anything else.
    """

    offset: int
    size: int
    points_to: str | None = None
    embeds: str | None = None


class BTFError(HostError):
    """The bytes are not BTF, or contradict themselves."""

    def __init__(self, problem: str) -> None:
        """*problem* ends a sentence."""
        super().__init__(
            f"The kernel's type information (BTF) cannot be read: {problem}.",
            f"Check that {VMLINUX} belongs to the running kernel.",
        )
        self.problem = problem


class BTF:
    """The types in one BTF blob; little-endian, as on x86-64."""

    def __init__(self, data: bytes) -> None:
        """Index *data*. Raises BTFError."""
        if len(data) < _HEADER.size:
            raise BTFError("it is shorter than its header")
        magic, version, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            raise BTFError("it does not begin as BTF version 1 does")
        types = header + type_off
        strings = header + str_off
        if type_len % 4 or types + type_len > len(data) or strings + str_len > len(data):
            raise BTFError("its sections do not fit in it")
        self._types = data[types : types + type_len]
        self._words = memoryview(self._types).cast("I")
        self._strings = data[strings : strings + str_len]
        if not self._strings.startswith(b"\0") or not self._strings.endswith(b"\0"):
            raise BTFError("its string section is not delimited")
        self._at = self._index()

    def _index(self) -> list[int]:
        """Positions, in words, of all types; the position in the list is the type id."""
        words, at, position, end = self._words, [0], 0, len(self._words)
        fixed, per_entry = _FIXED_WORDS, _WORDS_PER_ENTRY
        append = at.append
        while position + _TYPE_WORDS <= end:
            append(position)
            info = words[position + 1]
            kind = info >> 24 & 0x1F
            position += _TYPE_WORDS
            if kind in per_entry:
                position += per_entry[kind] * (info & 0xFFFF)
            elif kind in fixed:
                position += fixed[kind]
            elif not 1 <= kind <= _ENUM64:
                raise BTFError(f"type {len(at) - 1} is of kind {kind}")
        if position != end:
            raise BTFError("its last type is cut off")
        return at

    def _position(self, type_id: int) -> int:
        if not type_id:
            return _VOID
        if type_id >= len(self._at):
            raise BTFError(f"there is no type {type_id}")
        return self._at[type_id]

    def _kind(self, position: int) -> int:
        if position == _VOID:
            return 0
        return self._words[position + 1] >> 24 & 0x1F

    def _count(self, position: int) -> int:
        return self._words[position + 1] & 0xFFFF

    def _bitfields(self, position: int) -> bool:
        return bool(self._words[position + 1] >> 31)

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise BTFError(f"there is no string at {offset}")
        return self._strings[offset:end].decode("ascii", "replace")

    def _named(self, name: str, kinds: set[int]) -> Iterator[int]:
        """Positions of the types called *name* of one of *kinds*.

        A type begins with the offset of its name, so this looks for those four
        bytes: far cheaper than comparing the names of 100,000 types.
        """
        for offset in self._string_offsets(name):
            wanted = offset.to_bytes(4, "little")
            found = self._types.find(wanted)
            while found >= 0:
                position, misaligned = divmod(found, 4)
                if not misaligned and self._is_type(position) and self._kind(position) in kinds:
                    yield position
                found = self._types.find(wanted, found + 1)

    def _id(self, position: int) -> int:
        return bisect_left(self._at, position, 1)

    def _is_type(self, position: int) -> bool:
        type_id = self._id(position)
        return type_id < len(self._at) and self._at[type_id] == position

    def _string_offsets(self, name: str) -> Iterator[int]:
        wanted = name.encode() + b"\0"
        found = self._strings.find(b"\0" + wanted)
        while found >= 0:
            yield found + 1
            found = self._strings.find(b"\0" + wanted, found + 1)

    def _resolve(self, type_id: int) -> int:
        """Position of the type behind typedefs and qualifiers."""
        for _ in range(_MOST_NESTING):
            position = self._position(type_id)
            if self._kind(position) not in _MODIFIERS:
                return position
            type_id = self._words[position + 2]
        raise BTFError(f"type {type_id} is nested without end")

    def _size(self, type_id: int) -> int:
        elements = 1
        for _ in range(_MOST_NESTING):
            position = self._resolve(type_id)
            kind = self._kind(position)
            if kind == _PTR:
                return elements * _POINTER_SIZE
            if position == _VOID:
                return 0
            if kind != _ARRAY:
                return elements * self._words[position + 2]
            type_id = self._words[position + 3]
            elements *= self._words[position + 5]
        raise BTFError(f"type {type_id} is nested without end")

    def _points_to(self, type_id: int) -> str | None:
        position = self._resolve(type_id)
        if self._kind(position) != _PTR:
            return None
        target = self._resolve(self._words[position + 2])
        if self._kind(target) == _STRUCT and self._string(self._words[target]):
            return f"struct {self._string(self._words[target])}"
        return "void"

    def _embeds(self, type_id: int) -> str | None:
        position = self._resolve(type_id)
        if self._kind(position) != _STRUCT:
            return None
        return self._string(self._words[position]) or None

    def struct_size(self, name: str) -> int | None:
        """Bytes a ``struct name`` takes, None where the kernel has no such type."""
        return next((self._words[at + 2] for at in self._named(name, _COMPOSITES)), None)

    def struct_id(self, name: str) -> int | None:
        """Type id of ``struct name``."""
        return next((self._id(at) for at in self._named(name, _COMPOSITES)), None)

    def member(self, struct_name: str, path: str) -> Member | None:
        """Find *path* (``a`` or ``a.b``) in ``struct struct_name``; None where it is not.

        Members of anonymous structs and unions are found by their own name, as in C.
        """
        for position in self._named(struct_name, _COMPOSITES):
            found = self._walk(position, path.split("."))
            if found is not None:
                return found
        return None

    def _walk(self, position: int, path: list[str]) -> Member | None:
        offset = 0
        for depth, name in enumerate(path):
            step = self._find(position, name, set())
            if step is None:
                return None
            bits, type_id = step
            if bits % 8:
                return None
            offset += bits // 8
            if depth == len(path) - 1:
                return Member(
                    offset,
                    self._size(type_id),
                    self._points_to(type_id),
                    self._embeds(type_id),
                )
            position = self._resolve(type_id)
        return None

    def _find(
        self, position: int, name: str, seen: set[int], depth: int = 0
    ) -> tuple[int, int] | None:
        """Bit offset and type id of the member *name*, looked for in anonymous members too.

        *seen* are the positions of the types looked into, *depth* is how many this one is in.
        """
        if self._kind(position) not in _COMPOSITES or position in seen:
            return None
        if depth == _MOST_NESTING:
            raise BTFError("its structs are nested without end")
        seen.add(position)
        packed = self._bitfields(position)
        for index in range(self._count(position)):
            at = position + _TYPE_WORDS + 3 * index
            name_off, type_id, where = self._words[at : at + 3]
            bits = where & 0xFFFFFF if packed else where
            if name_off:
                if self._string(name_off) == name:
                    return bits, type_id
                continue
            inner = self._find(self._resolve(type_id), name, seen, depth + 1)
            if inner is not None:
                return bits + inner[0], inner[1]
        return None

    def _prototype(self, function: str) -> int | None:
        for position in self._named(function, {_FUNC}):
            proto = self._position(self._words[position + 2])
            if self._kind(proto) != _FUNC_PROTO:
                raise BTFError(f"the function {function} has no prototype")
            return proto
        return None

    def _parameter_words(self, proto: int) -> Iterator[int]:
        start = proto + _TYPE_WORDS
        return iter(range(start, start + 2 * self._count(proto), 2))

    def parameters(self, function: str) -> tuple[str, ...] | None:
        """Parameter names of *function* in order, None where BTF does not know it."""
        proto = self._prototype(function)
        if proto is None:
            return None
        return tuple(self._string(self._words[at]) for at in self._parameter_words(proto))

    def takes_structs(self, function: str) -> bool:
        """Whether a parameter of *function* is a struct or union, not a pointer to one."""
        proto = self._prototype(function)
        if proto is None:
            return False
        types = (self._words[at + 1] for at in self._parameter_words(proto))
        return any(
            type_id and self._kind(self._resolve(type_id)) in _COMPOSITES for type_id in types
        )

    def function_id(self, function: str) -> int | None:
        """Type id of *function*, as BPF_PROG_LOAD's attach_btf_id wants it."""
        for position in self._named(function, {_FUNC}):
            return self._id(position)
        return None

    def enumerators(self, enum: str) -> dict[str, int]:
        """Names and values of ``enum enum`` (32-bit values); empty where there is none."""
        for position in self._named(enum, {_ENUM}):
            return {
                self._string(self._words[at]): self._words[at + 1]
                for at in range(
                    position + _TYPE_WORDS, position + _TYPE_WORDS + 2 * self._count(position), 2
                )
            }
        return {}
