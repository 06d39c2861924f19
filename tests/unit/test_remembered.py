"""What was asked of a kernel's types before is not read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pte_trace import user_cache
from pte_trace.kernel import kernel_types, remembered
from pte_trace.kernel.btf import BTF, BTFError
from pte_trace.kernel.remembered import RememberedBTF
from tests.btf_writer import kernel_btf


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_cache, "directory", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def kernel(tmp_path: Path) -> tuple[Path, Path]:
    """Its BTF and its notes."""
    vmlinux, notes = tmp_path / "vmlinux", tmp_path / "notes"
    vmlinux.write_bytes(kernel_btf())
    notes.write_bytes(b"its build ID")
    return vmlinux, notes


def answers(types: BTF) -> object:
    return (
        kernel_types.declarations(types),
        types.parameters("do_wp_page"),
        types.parameters("no_such_function"),
        types.function_id("do_wp_page"),
        types.function_id("no_such_function"),
        types.struct_id("vm_fault"),
        types.struct_id("no_such_struct"),
        types.member("task_struct", "no_such_member"),
        types.enumerators("bpf_func_id"),
    )


def unreadable(types: RememberedBTF) -> RememberedBTF:
    def read() -> bytes:
        raise AssertionError("its types are read")

    types._read = read
    return types


def test_what_was_asked_before_is_answered_without_reading(kernel: tuple[Path, Path]) -> None:
    first = remembered.of_running_kernel(*kernel)
    before = answers(first)
    assert before == answers(BTF(kernel_btf()))
    first.keep()
    again = unreadable(remembered.of_running_kernel(*kernel))
    assert answers(again) == before


def test_what_was_not_asked_before_is_read(kernel: tuple[Path, Path]) -> None:
    first = remembered.of_running_kernel(*kernel)
    first.parameters("do_wp_page")
    first.keep()
    again = remembered.of_running_kernel(*kernel)
    assert answers(again) == answers(BTF(kernel_btf()))
    again.keep()
    assert answers(unreadable(remembered.of_running_kernel(*kernel))) == answers(first)


def test_another_kernel_is_asked_anew(kernel: tuple[Path, Path]) -> None:
    vmlinux, notes = kernel
    remembered.of_running_kernel(vmlinux, notes).keep()
    notes.write_bytes(b"another build ID")
    vmlinux.write_bytes(b"")
    with pytest.raises(BTFError):
        remembered.of_running_kernel(vmlinux, notes)


def test_types_that_are_gone_are_not_answered_for(kernel: tuple[Path, Path]) -> None:
    vmlinux, notes = kernel
    remembered.of_running_kernel(vmlinux, notes).keep()
    vmlinux.write_bytes(b"")
    with pytest.raises(BTFError):
        remembered.of_running_kernel(vmlinux, notes)
    vmlinux.unlink()
    with pytest.raises(FileNotFoundError):
        remembered.of_running_kernel(vmlinux, notes)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_file_is_no_answer(
    kernel: tuple[Path, Path], cache: Path, content: bytes
) -> None:
    first = remembered.of_running_kernel(*kernel)
    first.keep()
    (kept,) = (cache / "types").iterdir()
    kept.write_bytes(content)
    assert answers(remembered.of_running_kernel(*kernel)) == answers(first)


def test_without_a_build_id_nothing_is_kept(kernel: tuple[Path, Path], cache: Path) -> None:
    vmlinux, notes = kernel
    notes.unlink()
    types = remembered.of_running_kernel(vmlinux, notes)
    assert answers(types) == answers(BTF(kernel_btf()))
    types.keep()
    assert not cache.exists()
