"""The kernel types the BPF programs use, written out from the running kernel's BTF.

BCC compiles against a kernel tree; bpf/kernel/ stands in for one, the same for every kernel.
What differs between kernels is declared here: the few structs we read, each with the members
we name at this kernel's offsets.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pte_trace.errors import HostError
from pte_trace.kernel.btf import BTF, Member

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
        "vm_pgoff",
        "vm_file",
        "vm_ops",
        "anon_vma",
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
        "cred",
    ),
    "cred": ("uid.val",),
    "signal_struct": ("live.counter",),
    "file": ("f_inode", "f_mode", "f_path"),
    "inode": ("i_ino", "i_sb"),
    "super_block": ("s_dev", "s_magic"),
    "dentry": ("d_parent", "d_name.hash_len", "d_name.name", "d_hash.pprev", "d_sb"),
    "vfsmount": ("mnt_root", "mnt_sb"),
    "mount": ("mnt_parent", "mnt_mountpoint"),
    "pt_regs": ("di", "si", "dx", "cx", "r8", "r9", "ax", "ip", "cs", "sp"),
}

# Members a kernel may lack, by struct, and the macro that tells the programs it has them.
OPTIONAL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "HAVE_ANON_NAME": {"vm_area_struct": ("anon_name",)},
    "HAVE_CGROUPS": {
        "task_struct": ("cgroups",),
        "css_set": ("dfl_cgrp",),
        "cgroup": ("kn",),
        "kernfs_node": ("id", "name"),
    },
    "HAVE_MM_OWNER": {"mm_struct": ("owner",)},
    "HAVE_REAL_ADDRESS": {"vm_fault": ("real_address",)},
    "HAVE_STACK_PAGES": {
        "task_struct": ("stack_vm_area",),
        "vm_struct": ("addr", "pages"),
    },
    "HAVE_USER_PATH": {"backing_file": ("user_path",)},
}

# What has another name on newer kernels, which comes first, by the macro that tells the programs.
RENAMED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    # 633488947ef6, Linux 6.15.
    "KERNFS_PARENT": ("kernfs_node", ("__parent", "parent")),
}

# Where a struct lies in another one, for container_of().
_OFFSETS: Mapping[str, tuple[str, str]] = {
    "MOUNT_MNT_OFFSET": ("mount", "mnt"),
    "ANON_NAME_OFFSET": ("anon_vma_name", "name"),
}

# Words of a struct page, by the names that they have had, the newest first.
_PAGE: Mapping[str, tuple[str, ...]] = {
    "PAGE_FLAGS_OFFSET": ("flags",),
    "PAGE_MAPPING_OFFSET": ("mapping",),
    "PAGE_HEAD_OFFSET": ("compound_info", "compound_head"),
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
        for macro, structs in OPTIONAL.items()
        if all(btf.member(struct, path) for struct, paths in structs.items() for path in paths)
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
    for structs in map(OPTIONAL.__getitem__, macros):
        for struct, paths in structs.items():
            wanted[struct] = (*wanted.get(struct, ()), *paths)
    renamed = {
        macro: (struct, path)
        for macro, (struct, paths) in RENAMED.items()
        for path in paths
        if btf.member(struct, path)
    }
    for struct, path in renamed.values():
        wanted[struct] = (*wanted.get(struct, ()), path)
    parts = [f"{name};" for name in _named_structs(btf, wanted)]
    parts += [_struct(btf, name, paths) for name, paths in wanted.items()]
    parts += [f"#define {macro} 1" for macro in macros]
    parts += [f"#define {macro} {path}" for macro, (_, path) in renamed.items()]
    for macro, (struct, path) in _OFFSETS.items():
        member = btf.member(struct, path)
        if member is not None:
            parts.append(f"#define {macro} {member.offset}")
    parts += _struct_page(btf)
    return "\n".join(parts) + "\n"


def _struct_page(btf: BTF) -> Iterator[str]:
    """How the programs look at one, which tells what write-protected it."""
    found = {
        macro: next(filter(None, (btf.member("page", name) for name in names)), None)
        for macro, names in _PAGE.items()
    }
    yield f"#define STRUCT_PAGE_KNOWN {int(all(found.values()))}"
    yield f"#define STRUCT_PAGE_SIZE {btf.struct_size('page') or 64}ULL"
    for macro, member in found.items():
        yield f"#define {macro} {member.offset if member else 0}"
    exclusive = btf.enumerators("pageflags").get("PG_anon_exclusive")
    if exclusive is not None:
        yield f"#define PAGE_EXCLUSIVE_BIT {exclusive}"


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
