"""What the programs are told of the cgroups asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pte_trace.counted.packed import LAYOUT
from pte_trace.filters import Filters
from pte_trace.programs import wanted


def words(field: object) -> bytes:
    return bytes(LAYOUT.ffi.buffer(field))


def test_a_directory_is_known_by_its_inode(tmp_path: Path) -> None:
    told = LAYOUT.ffi.from_buffer(
        "struct wanted_cgroups *", wanted.packed(Filters(cgroup=tmp_path))
    )
    assert (told.all, told.id) == (1, os.stat(tmp_path).st_ino)


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        wanted.packed(Filters(cgroup=tmp_path / "gone"))


def test_a_unit_is_compared_with_the_end_of_its_name() -> None:
    told = LAYOUT.ffi.from_buffer(
        "struct wanted_cgroups *", wanted.packed(Filters(unit="cpu.service"))
    )
    assert told.all == 2
    assert words(told.unit).rstrip(b"\0") == b"_cpu.service"
    assert words(told.unit_mask).rstrip(b"\0") == b"\xff" * 13


@pytest.mark.parametrize("length", [12, 13, 64])
def test_a_container_is_compared_as_far_as_it_is_given(length: int) -> None:
    given = ("0123456789abcdef" * 4)[:length]
    told = LAYOUT.ffi.from_buffer(
        "struct wanted_cgroups *", wanted.packed(Filters(container=given))
    )
    assert told.all == 4
    assert words(told.container).rstrip(b"\0") == given.encode()
    assert words(told.container_mask).rstrip(b"\0") == b"\xff" * length


def test_a_long_unit_has_room() -> None:
    longest = "x" * 247 + ".service"
    wanted.packed(Filters(unit=longest[1:]))
