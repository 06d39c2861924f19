"""The kernel types the BPF programs use, written out from the running kernel's BTF.

BCC compiles against a kernel tree; bpf/kernel/ stands in for one, the same for every kernel.
What differs between kernels is declared here: the few structs we read, each with the members
we name at this kernel's offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pte_trace.btf import BTF, Member
from pte_trace.errors import HostError

# What bpf/ reads of the kernel, by struct. A dot leads into an unnamed type's members;
# a struct that another one embeds comes before it.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "path": ("dentry", "mnt"),
    "vm_area_struct": (
        "vm_start",
        "vm_end",
        "vm_mm",
        "vm_page_prot.pgprot",
        "vm_flags",
        "vm_file",
        "vm_ops",
    ),
    "vm_fault": ("vma", "flags", "address", "orig_pte", "pmd", "pte"),
    "mm_struct": ("pgd", "start_brk", "brk", "start_stack"),
    "task_struct": (
        "pid",
        "tgid",
        "flags",
        "mm",
        "group_leader",
        "real_parent",
        "start_boottime",
        "self_exec_id",
        "comm",
        "signal",
        "stack",
    ),
    "signal_struct": ("live.counter",),
    "file": ("f_inode", "f_mode", "f_path"),
    "inode": ("i_ino", "i_sb"),
    "super_block": ("s_dev", "s_magic"),
    "dentry": ("d_parent", "d_name.name", "d_hash.pprev", "d_sb"),
    "vfsmount": ("mnt_root", "mnt_sb"),
    "mount": ("mnt_parent", "mnt_mountpoint"),
    "pt_regs": ("di", "si", "dx", "cx", "r8", "r9", "ax", "ip", "sp"),
}

# Members a kernel may lack, and the macro that tells the programs it has them.
OPTIONAL: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "HAVE_ANON_NAME": ("vm_area_struct", ("anon_name",)),
    "HAVE_MM_OWNER": ("mm_struct", ("owner",)),
    "HAVE_USER_PATH": ("backing_file", ("user_path",)),
}

# Where a struct lies in another one, for container_of().
_OFFSETS: Mapping[str, tuple[str, str]] = {
    "MOUNT_MNT_OFFSET": ("mount", "mnt"),
    "ANON_NAME_OFFSET": ("anon_vma_name", "name"),
}

_INTEGERS = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}


class _Tree(dict[str, "Member | _Tree"]):
    """Members of one struct by name; a nested tree is an embedded struct."""


def missing(btf: BTF) -> tuple[str, ...]:
    """The needed members this kernel does not have, as ``struct.member``."""
    needed = [(struct, path) for struct, paths in NEEDED.items() for path in paths]
    needed.append(_OFFSETS["MOUNT_MNT_OFFSET"])
    return tuple(f"{struct}.{path}" for struct, path in needed if not btf.member(struct, path))


def optional_macros(btf: BTF) -> tuple[str, ...]:
    """The macros of OPTIONAL whose members this kernel has."""
    return tuple(
        macro
        for macro, (struct, paths) in OPTIONAL.items()
        if all(btf.member(struct, path) for path in paths)
    )


def declarations(btf: BTF) -> str:
    """C text that declares the needed structs of this kernel. Raises HostError."""
    lacking = missing(btf)
    if lacking:
        raise HostError(
            f"This kernel's type information has no {', '.join(lacking)}.",
            "Report this kernel's release at the project's issue tracker.",
        )
    wanted = dict(NEEDED)
    macros = optional_macros(btf)
    for macro in macros:
        struct, paths = OPTIONAL[macro]
        wanted[struct] = (*wanted.get(struct, ()), *paths)
    parts = [f"{name};" for name in _named_structs(btf, wanted)]
    parts += [_struct(btf, name, paths) for name, paths in wanted.items()]
    parts += [f"#define {macro} 1" for macro in macros]
    for macro, (struct, path) in _OFFSETS.items():
        member = btf.member(struct, path)
        if member is not None:
            parts.append(f"#define {macro} {member.offset}")
    return "\n".join(parts) + "\n"


def _named_structs(btf: BTF, wanted: Mapping[str, Iterable[str]]) -> list[str]:
    named = {f"struct {name}" for name in wanted}
    for struct, paths in wanted.items():
        for path in paths:
            member = btf.member(struct, path)
            if member is not None and member.points_to:
                named.add(member.points_to)
    return sorted(named - {"void"})


def _struct(btf: BTF, name: str, paths: Iterable[str]) -> str:
    tree = _Tree()
    for path in paths:
        at = tree
        *outer, last = path.split(".")
        for step in outer:
            inner = at.setdefault(step, _Tree())
            assert isinstance(inner, _Tree)
            at = inner
        member = btf.member(name, path)
        assert member is not None
        at[last] = member
    size = btf.struct_size(name)
    assert size is not None
    checks = "\n".join(
        f'_Static_assert(__builtin_offsetof(struct {name}, {path}) == {member.offset}, "");'
        for path in paths
        if (member := btf.member(name, path)) is not None
    )
    return f"struct {name} {{\n{_body(tree, 0, size)}}};\n{checks}"


def _first_offset(entry: Member | _Tree) -> int:
    if isinstance(entry, Member):
        return entry.offset
    return min(_first_offset(inner) for inner in entry.values())


def _end(entry: Member | _Tree) -> int:
    if isinstance(entry, Member):
        return entry.offset + entry.size
    return max(_end(inner) for inner in entry.values())


def _body(tree: _Tree, start: int, end: int) -> str:
    lines, position = [], start
    for name, entry in sorted(tree.items(), key=lambda item: _first_offset(item[1])):
        begins = _first_offset(entry)
        if begins > position:
            lines.append(f"\tchar _pad_{position}[{begins - position}];\n")
        if isinstance(entry, Member):
            lines.append(f"\t{_declare(name, entry)};\n")
        else:
            inner = _body(entry, begins, _end(entry))
            lines.append(f"\tstruct {{\n{inner}\t}} {name};\n")
        position = _end(entry)
    if end > position:
        lines.append(f"\tchar _pad_{position}[{end - position}];\n")
    return "".join(lines)


def _declare(name: str, member: Member) -> str:
    if member.points_to:
        return f"{member.points_to} *{name}"
    if member.embeds:
        return f"struct {member.embeds} {name}"
    if member.size in _INTEGERS:
        return f"{_INTEGERS[member.size]} {name}"
    return f"char {name}[{member.size}]"
