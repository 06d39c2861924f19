"""The kernel's types for BCC: what is declared is what the kernel has, as gcc sees it."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from pte_trace.errors import HostError
from pte_trace.kernel import kernel_types
from pte_trace.kernel.btf import BTF, VMLINUX
from pte_trace.programs import program
from tests.btf_writer import kernel_btf

NEEDED = [f"{struct}.{path}" for struct, paths in kernel_types.NEEDED.items() for path in paths]
OPTIONAL = [
    (macro, f"{struct}.{path}")
    for macro, structs in kernel_types.OPTIONAL.items()
    for struct, paths in structs.items()
    for path in paths
]


def kernel(lacking: Collection[str] = ()) -> BTF:
    return BTF(kernel_btf(lacking))


def compile_types(btf: BTF, text: str = "") -> None:
    """Let gcc check the types: their static assertions compare each member's offset."""
    include = f"-I{program.kernel_tree()}/include"
    compiled = subprocess.run(
        ["gcc", "-std=gnu11", "-Werror", "-fsyntax-only", include, "-xc", "-"],
        input=f"#include <linux/types.h>\n{kernel_types.declarations(btf)}{text}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr


def test_what_is_needed_is_declared_at_this_kernels_offsets() -> None:
    btf = kernel()
    text = kernel_types.declarations(btf)
    for name in NEEDED:
        owner, path = name.split(".", 1)
        found = btf.member(owner, path)
        assert found is not None
        assert f"__builtin_offsetof(struct {owner}, {path}) == {found.offset}," in text
    compile_types(btf)


def test_members_have_types_that_the_programs_can_follow() -> None:
    compile_types(
        kernel(),
        """
        u64 flags_of(struct vm_fault *fault) { return fault->vma->vm_flags; }
        struct dentry *dentry_of(struct file *file) { return file->f_path.dentry; }
        u32 threads_of(struct task_struct *task) { return task->signal->live.counter; }
        u64 entry(struct vm_fault *fault) { return fault->orig_pte + *(u64 *)fault->pte; }
        _Static_assert(sizeof(((struct task_struct *)0)->comm) == 16, "");
        """,
    )


def test_structs_are_as_large_as_the_kernels() -> None:
    btf = kernel()
    sizes = [
        f'_Static_assert(sizeof(struct {name}) == {btf.struct_size(name)}, "{name}");'
        for name in kernel_types.NEEDED
    ]
    compile_types(btf, "\n".join(sizes))


def test_nothing_is_missing_of_a_kernel_that_has_it_all() -> None:
    assert kernel_types.missing(kernel()) == ()


@pytest.mark.parametrize("name", NEEDED)
def test_a_missing_member_is_named(name: str) -> None:
    btf = kernel([name])
    assert kernel_types.missing(btf) == (name,)
    with pytest.raises(HostError, match=f"has no {name}\\.") as caught:
        kernel_types.declarations(btf)
    assert "issue tracker" in caught.value.mend


def test_a_struct_that_another_one_must_contain_is_needed_too() -> None:
    """MOUNT_MNT_OFFSET, which bpf/vma.h uses without asking whether it is there."""
    assert kernel_types.missing(kernel(["mount.mnt"])) == ("mount.mnt",)


def test_all_missing_members_are_named_at_once() -> None:
    btf = kernel(["vm_fault.pte", "file.f_mode"])
    with pytest.raises(HostError, match=r"has no vm_fault\.pte, file\.f_mode\."):
        kernel_types.declarations(btf)


@pytest.mark.parametrize(("macro", "name"), OPTIONAL)
def test_an_optional_member_defines_its_macro(macro: str, name: str) -> None:
    has, lacks = kernel(), kernel([name])
    assert macro in kernel_types.optional_macros(has)
    assert macro not in kernel_types.optional_macros(lacks)
    assert f"#define {macro} 1\n" in kernel_types.declarations(has)
    assert macro not in kernel_types.declarations(lacks)
    compile_types(lacks)


@pytest.mark.parametrize(("lacking", "called"), [("__parent", "parent"), ("parent", "__parent")])
def test_a_member_that_was_renamed_goes_by_the_name_it_has(lacking: str, called: str) -> None:
    btf = kernel([f"kernfs_node.{lacking}"])
    text = kernel_types.declarations(btf)
    assert f"#define KERNFS_PARENT {called}\n" in text
    compile_types(
        btf, "struct kernfs_node *up(struct kernfs_node *at) { return at->KERNFS_PARENT; }"
    )


def test_container_of_has_its_offsets() -> None:
    btf = kernel()
    mount, name = btf.member("mount", "mnt"), btf.member("anon_vma_name", "name")
    assert mount is not None
    assert name is not None
    text = kernel_types.declarations(btf)
    assert f"#define MOUNT_MNT_OFFSET {mount.offset}\n" in text
    assert f"#define ANON_NAME_OFFSET {name.offset}\n" in text


def test_the_tree_has_every_file_that_bcc_includes() -> None:
    tree = Path(program.kernel_tree())
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert files == {
        "arch/x86/include/asm/page.h",
        "include/linux/kconfig.h",
        "include/linux/log2.h",
        "include/linux/ptrace.h",
        "include/linux/types.h",
        "include/linux/version.h",
        "include/uapi/linux/bpf.h",
        "include/uapi/linux/bpf_common.h",
        "include/uapi/linux/if_packet.h",
    }


def test_this_kernels_own_types_compile() -> None:
    if not VMLINUX.exists():
        pytest.skip(f"this kernel has no {VMLINUX} (CONFIG_DEBUG_INFO_BTF)")
    btf = BTF(VMLINUX.read_bytes())
    if kernel_types.missing(btf):
        pytest.skip("this kernel's types lack what is needed")
    compile_types(btf)
