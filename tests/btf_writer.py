"""Write BTF: the reverse of pte_trace/kernel/btf.py, for the kinds of types it reads."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

VOID = 0

_HEADER = struct.Struct("<HBBIIIII")
HEADER_SIZE = _HEADER.size


class _Kind(IntEnum):
    """As numbered in the kernel's Documentation/bpf/btf.rst."""

    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    TYPEDEF = 8
    CONST = 10
    FUNC = 12
    FUNC_PROTO = 13


class Field(NamedTuple):
    """A member or a parameter; *bits* is the width of a bitfield, 0 for any other member."""

    name: str
    type_id: int
    bits: int = 0


class _Shape(NamedTuple):
    size: int
    alignment: int


_NO_SHAPE = _Shape(0, 1)


def blob_of(types: bytes, strings: bytes) -> bytes:
    """The BTF of these two sections."""
    header = _HEADER.pack(0xEB9F, 1, 0, HEADER_SIZE, 0, len(types), len(types), len(strings))
    return header + types + strings


class BTFWriter:
    """Each method adds one type and returns its id. Structs are laid out as C does."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._strings = bytearray(1)
        self._shapes = [_NO_SHAPE]  # by type id; type 0 is void
        self._structs: dict[str, int] = {}
        self._pointers: list[tuple[int, str]] = []

    @property
    def next_id(self) -> int:
        """The id that the next type will have, for a type that names itself."""
        return len(self._shapes)

    def integer(self, name: str, size: int) -> int:
        return self._add(_Kind.INT, name, size, (size * 8,), shape=_Shape(size, size))

    def pointer(self, to: int) -> int:
        return self._add(_Kind.PTR, "", to, shape=_Shape(8, 8))

    def pointer_to_struct(self, name: str) -> int:
        """A pointer to a struct that may be added later."""
        pointer = self.pointer(VOID)
        self._pointers.append((len(self._words) - 1, name))
        return pointer

    def const(self, of: int) -> int:
        return self._add(_Kind.CONST, "", of, shape=self._shape(of))

    def typedef(self, name: str, of: int) -> int:
        return self._add(_Kind.TYPEDEF, name, of, shape=self._shape(of))

    def array(self, element: int, length: int) -> int:
        size, alignment = self._shape(element)
        shape = _Shape(size * length, alignment)
        return self._add(_Kind.ARRAY, "", 0, (element, VOID, length), shape=shape)

    def struct(self, name: str, *fields: Field) -> int:
        self._structs[name] = self.next_id
        return self._composite(_Kind.STRUCT, name, fields)

    def union(self, name: str, *fields: Field) -> int:
        return self._composite(_Kind.UNION, name, fields)

    def enum(self, name: str, values: Mapping[str, int]) -> int:
        words = [word for each, value in values.items() for word in (self._string(each), value)]
        return self._add(_Kind.ENUM, name, 4, words, count=len(values), shape=_Shape(4, 4))

    def function(self, name: str, *parameters: Field) -> int:
        """A function and its prototype: two types. The id is the function's."""
        words = [word for each in parameters for word in (self._string(each.name), each.type_id)]
        prototype = self._add(_Kind.FUNC_PROTO, "", VOID, words, count=len(parameters))
        return self.function_of(name, prototype)

    def function_of(self, name: str, prototype: int) -> int:
        return self._add(_Kind.FUNC, name, prototype)

    def sections(self) -> tuple[bytes, bytes]:
        """The types and the strings."""
        words = list(self._words)
        for position, name in self._pointers:
            words[position] = self._structs.get(name, VOID)
        return struct.pack(f"<{len(words)}I", *words), bytes(self._strings)

    def blob(self) -> bytes:
        return blob_of(*self.sections())

    def _shape(self, type_id: int) -> _Shape:
        return self._shapes[type_id] if type_id < len(self._shapes) else _NO_SHAPE

    def _string(self, text: str) -> int:
        if not text:
            return 0
        offset = len(self._strings)
        self._strings += text.encode() + b"\0"
        return offset

    def _composite(self, kind: _Kind, name: str, fields: tuple[Field, ...]) -> int:
        words: list[int] = []
        end, alignment = 0, 1
        has_bitfields = any(field.bits for field in fields)
        for field in fields:
            shape = self._shape(field.type_id)
            offset = 0 if kind is _Kind.UNION else _place(end, field, shape)
            end = max(end, offset + (field.bits or shape.size * 8))
            alignment = max(alignment, shape.alignment)
            width = field.bits << 24 if has_bitfields else 0
            words += (self._string(field.name), field.type_id, width | offset)
        shape = _Shape(_round_up(end, alignment * 8) // 8, alignment)
        return self._add(
            kind, name, shape.size, words, count=len(fields), flag=has_bitfields, shape=shape
        )

    def _add(
        self,
        kind: _Kind,
        name: str,
        size_or_type: int,
        words: Iterable[int] = (),
        *,
        count: int = 0,
        flag: bool = False,
        shape: _Shape = _NO_SHAPE,
    ) -> int:
        info = flag << 31 | kind << 24 | count
        self._words += (self._string(name), info, size_or_type, *words)
        self._shapes.append(shape)
        return len(self._shapes) - 1


def _round_up(number: int, to: int) -> int:
    return -(-number // to) * to


def _place(end: int, field: Field, shape: _Shape) -> int:
    """The bit offset of *field* in a struct whose members so far take *end* bits."""
    unit = shape.size * 8
    if field.bits and end // unit == (end + field.bits - 1) // unit:
        return end
    return _round_up(end, shape.alignment * 8)


NO_FUNCTIONS: Mapping[str, Collection[str]] = {}


def kernel_btf(
    lacking: Collection[str] = (), functions: Mapping[str, Collection[str]] = NO_FUNCTIONS
) -> bytes:
    """The structs that pte-trace reads, much as Linux 6.18 has them, without members *lacking*.

    A member is called as in kernel_types.NEEDED: ``file.f_mode``, ``dentry.d_name.name``. And
    *functions*, by the names of their parameters.
    """
    write = BTFWriter()
    to = write.pointer_to_struct

    def of(owner: str, *fields: Field) -> tuple[Field, ...]:
        return tuple(field for field in fields if f"{owner}.{field.name}" not in lacking)

    u32 = write.integer("unsigned int", 4)
    u64 = write.integer("long unsigned int", 8)
    char = write.integer("char", 1)
    address = write.pointer(VOID)
    name = write.pointer(write.const(char))
    pte_t = write.typedef("pte_t", write.struct("", Field("pte", u64)))
    atomic_t = write.typedef(
        "atomic_t", write.struct("", *of("signal_struct.live", Field("counter", u32)))
    )

    path = write.struct(
        "path", *of("path", Field("mnt", to("vfsmount")), Field("dentry", to("dentry")))
    )
    operations = write.struct("vm_operations_struct", Field("open", address))
    limits = write.struct("", *of("vm_area_struct", Field("vm_start", u64), Field("vm_end", u64)))
    flags = write.union(
        "", *of("vm_area_struct", Field("vm_flags", write.const(u64))), Field("__vm_flags", u64)
    )
    write.struct(
        "vm_area_struct",
        *of(
            "vm_area_struct",
            Field("", limits),
            Field("vm_mm", to("mm_struct")),
            Field(
                "vm_page_prot",
                write.struct("pgprot", *of("vm_area_struct.vm_page_prot", Field("pgprot", u64))),
            ),
            Field("", flags),
            Field("vm_pgoff", u64),
            Field("vm_ops", write.pointer(write.const(operations))),
            Field("vm_file", to("file")),
            Field("anon_vma", address),
            Field("anon_name", to("anon_vma_name")),
        ),
    )
    write.function("bpf_rdonly_cast", Field("address", address), Field("type", u32))
    write.function("bpf_session_is_return", Field("ctx", address))
    write.function("bpf_session_cookie", Field("ctx", address))
    write.struct("fprobe", Field("hlist_array", address))
    write.struct(
        "anon_vma_name",
        Field("kref", u32),
        *of("anon_vma_name", Field("name", write.array(char, 0))),
    )
    write.struct(
        "vm_fault",
        *of(
            "vm_fault",
            Field("vma", to("vm_area_struct")),
            Field("gfp_mask", u32),
            Field("address", u64),
            Field("real_address", u64),
            Field("flags", u32),
            Field("pmd", write.pointer(pte_t)),
            Field("orig_pte", pte_t),
            Field("pte", write.pointer(pte_t)),
        ),
    )
    write.struct(
        "page",
        *of(
            "page",
            Field("flags", u64),
            Field("compound_head", u64),
            Field("compound_info", u64),
            Field("mapping", address),
        ),
    )
    write.struct(
        "mm_struct",
        *of(
            "mm_struct",
            Field("map_count", u32),
            Field("pgd", write.pointer(pte_t)),
            Field("start_brk", u64),
            Field("brk", u64),
            Field("start_stack", u64),
            Field("owner", to("task_struct")),
        ),
    )
    write.struct(
        "task_struct",
        *of(
            "task_struct",
            Field("mm", to("mm_struct")),
            Field("flags", u32),
            Field("pid", u32),
            Field("tgid", u32),
            Field("real_parent", to("task_struct")),
            Field("group_leader", to("task_struct")),
            Field("start_boottime", u64),
            Field("comm", write.array(char, 16)),
            Field("cred", to("cred")),
            Field("signal", to("signal_struct")),
            Field("self_exec_id", u64),
            Field("cgroups", to("css_set")),
            Field("stack", address),
            Field("stack_vm_area", to("vm_struct")),
            Field("exit_code", u32),
        ),
    )
    write.struct(
        "vm_struct",
        Field("next", address),
        *of("vm_struct", Field("addr", address), Field("pages", address)),
    )
    write.struct(
        "css_set", Field("subsys", address), *of("css_set", Field("dfl_cgrp", to("cgroup")))
    )
    write.struct("cgroup", Field("level", u32), *of("cgroup", Field("kn", to("kernfs_node"))))
    write.struct(
        "kernfs_node",
        *of(
            "kernfs_node",
            Field("count", u32),
            Field("parent", to("kernfs_node")),
            Field("__parent", to("kernfs_node")),
            Field("name", name),
            Field("id", u64),
        ),
    )
    uid = write.struct("", *of("cred.uid", Field("val", u32)))
    write.struct("cred", *of("cred", Field("usage", u32), Field("uid", uid)))
    write.struct(
        "signal_struct", *of("signal_struct", Field("sigcnt", u32), Field("live", atomic_t))
    )
    file = write.struct(
        "file",
        *of(
            "file",
            Field("f_lock", u32),
            Field("f_mode", u32),
            Field("f_inode", to("inode")),
            Field("f_path", path),
            Field("f_pos", u64),
        ),
    )
    write.struct("backing_file", Field("file", file), *of("backing_file", Field("user_path", path)))
    write.struct("inode", *of("inode", Field("i_sb", to("super_block")), Field("i_ino", u64)))
    write.struct("super_block", *of("super_block", Field("s_dev", u32), Field("s_magic", u64)))
    node = write.struct(
        "hlist_bl_node", Field("next", address), *of("dentry.d_hash", Field("pprev", address))
    )
    qstr = write.struct("qstr", *of("dentry.d_name", Field("hash_len", u64), Field("name", name)))
    write.struct(
        "dentry",
        *of(
            "dentry",
            Field("d_flags", u32),
            Field("d_hash", node),
            Field("d_parent", to("dentry")),
            Field("d_name", qstr),
            Field("d_sb", to("super_block")),
        ),
    )
    vfsmount = write.struct(
        "vfsmount",
        *of("vfsmount", Field("mnt_root", to("dentry")), Field("mnt_sb", to("super_block"))),
    )
    write.struct(
        "mount",
        *of(
            "mount",
            Field("mnt_hash", node),
            Field("mnt_parent", to("mount")),
            Field("mnt_mountpoint", to("dentry")),
            Field("mnt", vfsmount),
        ),
    )
    write.struct("spinlock", Field("rlock", u32))
    registers = ("r15", "r9", "r8", "ax", "cx", "dx", "si", "di", "ip", "cs", "sp")
    write.struct("pt_regs", *of("pt_regs", *(Field(each, u64) for each in registers)))
    for function, parameters in functions.items():
        write.function(function, *(Field(each, u64) for each in parameters))
    return write.blob()
