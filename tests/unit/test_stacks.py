"""From the addresses of a stack to names, and from calls to the mappings they changed."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pte_trace.records import JIT, LAYOUT, CallSite, Frame
from pte_trace.stacks import (
    Code,
    CodeMapping,
    RawCall,
    attach,
    decode_calls,
    decode_code,
    mapped_now,
)
from tests.builders import counts, record, snapshot
from tests.unit.test_records import pack, path_record

LIBC = CodeMapping(100, 1000, 0x7000, 0x8000, 0x2000, 11, "/lib/libc.so.6")
PROGRAM = CodeMapping(100, 1000, 0x4000, 0x5000, 0, 12, "/bin/program")
JITTED = CodeMapping(100, 1000, 0x9000, 0xA000, 0, 0, JIT)
VMA = record().key


def symbolize(name: str, inode: int, offset: int) -> tuple[str, int]:
    """As if every file had one function, at its beginning, and were loaded at 0x100000."""
    return f"f{inode}+{offset + 1:#x}", 0x100000 + offset + 1


def call(*frames: int, top: int = 0, calls: int = 1, **changes: Any) -> RawCall:
    return RawCall(
        **{"vma": VMA, "cause": "mprotect", **changes}, stack_top=top, frames=frames, calls=calls
    )


def frames_of(raw: RawCall, *mappings: CodeMapping) -> tuple[Frame, ...]:
    code = Code(mappings or (LIBC, PROGRAM, JITTED), {})
    (with_sites,) = attach([record()], [raw], code, symbolize)
    (site,) = with_sites.call_sites
    return site.frames


def addresses(raw: RawCall) -> list[int]:
    return [frame.address for frame in frames_of(raw)]


def test_a_frame_is_named_by_the_instruction_before_the_address() -> None:
    (frame,) = frames_of(call(0x7010))
    assert frame == Frame(0x7010, "/lib/libc.so.6", 0x102010, "f11+0x2010")


def test_the_caller_that_frame_pointers_skip_is_the_word_on_top_of_the_stack() -> None:
    assert addresses(call(0x7010, 0x4100, top=0x4020)) == [0x7010, 0x4020, 0x4100]


def test_where_frame_pointers_lead_to_the_caller_it_is_not_told_twice() -> None:
    assert addresses(call(0x7010, 0x4020, 0x4100, top=0x4020)) == [0x7010, 0x4020, 0x4100]


@pytest.mark.parametrize("word", [0, 1, 0x7FFC_0000_0000])
def test_a_word_that_is_no_code_is_no_caller(word: int) -> None:
    assert addresses(call(0x4010, 0x4100, top=word)) == [0x4010, 0x4100]


def test_a_stack_ends_where_it_leads_out_of_code() -> None:
    frames = frames_of(call(0x7010, 0x66_0000, 0x4100, top=0x4020))
    assert [frame.address for frame in frames] == [0x7010, 0x4020, 0x66_0000]
    assert frames[-1] == Frame(0x66_0000)


def test_what_is_too_small_for_an_address_is_none() -> None:
    assert addresses(call(0x7010, 3, 0x4100, top=0x4020)) == [0x7010, 0x4020]


def test_code_in_no_file_is_said_to_be_that() -> None:
    assert frames_of(call(0x7010, top=0x9004))[1] == Frame(0x9004, JIT)


def test_of_a_deleted_file_no_symbols_are_read() -> None:
    gone = CodeMapping(100, 1000, 0x7000, 0x8000, 0, 11, "/lib/libc.so.6 (deleted)")
    assert frames_of(call(0x7010), gone) == (Frame(0x7010, "/lib/libc.so.6 (deleted)"),)


def test_a_call_of_which_no_address_is_known_is_counted_all_the_same() -> None:
    assert frames_of(call()) == ()


def test_another_program_of_the_process_is_not_looked_in() -> None:
    code = Code([LIBC], {})
    assert code.find(100, 1000, 0x7010) == LIBC
    assert code.find(100, 1001, 0x7010) is None
    assert code.find(101, 1000, 0x7010) is None


def test_what_was_read_of_a_running_process_is_of_any_program() -> None:
    mapping = CodeMapping(100, None, 0x7000, 0x8000, 0, 11, "/lib/libc.so.6")
    assert Code([mapping], {}).find(100, 5, 0x7010) == mapping


def test_a_forked_process_has_its_forebears_code() -> None:
    code = Code([LIBC], {102: 101, 101: 100, 100: 1})
    assert code.find(102, 3000, 0x7010) == LIBC
    assert code.find(102, 3000, 0x6010) is None


def test_parents_in_a_circle_are_no_endless_loop() -> None:
    """A PID may have been given anew."""
    assert Code([], {1: 2, 2: 1}).find(1, 0, 0x7010) is None


def test_the_later_mapping_of_a_place_holds() -> None:
    newer = CodeMapping(100, 1000, 0x7800, 0x9000, 0, 13, "/lib/other.so")
    code = Code([LIBC, newer], {})
    assert code.find(100, 1000, 0x7900) == newer
    assert code.find(100, 1000, 0x7100) == LIBC


def test_calls_belong_to_the_vma_they_changed() -> None:
    elsewhere = record(start=0x50000, end=0x60000)
    shared = record(perms="rw-s")
    first, second, third = attach(
        [record(), elsewhere, shared], [call(0x4010)], Code([], {}), symbolize
    )
    assert first.call_sites == (CallSite("mprotect", (Frame(0x4010),), 1),)
    assert second.call_sites == third.call_sites == ()


def test_a_mappings_calls_are_those_of_its_vmas_together() -> None:
    beside = record(start=0x20000, end=0x30000)
    calls = [
        call(0x4010, calls=2),
        call(0x4010, calls=3, vma=beside.key),
        call(0x4030, calls=4),
        call(0x4010, calls=1, cause="uffd_wp"),
    ]
    records = attach(
        [record(counts=counts({"mprotect": 9})), beside], calls, Code([], {}), symbolize
    )
    (row,) = snapshot(*records).vmas
    assert [(site.cause, site.calls, site.frames[0].address) for site in row.call_sites] == [
        ("mprotect", 5, 0x4010),
        ("mprotect", 4, 0x4030),
        ("uffd_wp", 1, 0x4010),
    ]


def test_call_sites_are_decoded() -> None:
    vma = {
        "tgid": 7,
        "image": 8,
        "start": 0x1000,
        "end": 0x2000,
        "inode": 9,
        "dev": 10,
        "shared": 1,
    }
    site = pack(
        "call_site", {"vma": vma, "stack_top": 0x4020, "frames": [0x7010, 0x4100], "cause": 2}
    )
    (raw,) = decode_calls(site, (5).to_bytes(8, "little"), 1)
    assert raw == RawCall(
        (7, 8, 0x1000, 0x2000, 9, 10, True), "uffd_wp", 0x4020, (0x7010, 0x4100), 5
    )


def test_code_is_decoded_in_the_order_in_which_it_was_mapped() -> None:
    keys = [{"image": 8, "start": 0x5000, "tgid": 7}, {"image": 8, "start": 0x1000, "tgid": 7}]
    values = [
        {"mapped_ns": 2, "end": 0x6000},
        {"mapped_ns": 1, "end": 0x2000, "offset": 0x800, "inode": 9, "dev": 10, "unlinked": 1},
    ]
    decoded = decode_code(
        b"".join(pack("code_key", key) for key in keys),
        b"".join(pack("code_record", value) for value in values),
        2,
        lambda key: path_record("ls", "bin"),
    )
    assert list(decoded) == [
        CodeMapping(7, 8, 0x1000, 0x2000, 0x800, 9, "/bin/ls (deleted)"),
        CodeMapping(7, 8, 0x5000, 0x6000, 0, 0, JIT),
    ]


def test_a_running_process_says_what_code_it_has() -> None:
    """Against an address in the C library that is mapped into this very process."""
    libc = ctypes.CDLL(None)
    address = ctypes.cast(libc.mprotect, ctypes.c_void_p).value
    assert address is not None
    found = Code(mapped_now(os.getpid()), {}).find(os.getpid(), 0, address)
    assert found is not None
    assert os.stat(found.name).st_ino == found.inode
    (line,) = (
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.startswith(f"{found.start:x}-")
    )
    assert re.match(rf"{found.start:x}-{found.end:x} r-xp 0*{found.offset:x} ", line)


def test_a_process_that_is_gone_has_no_code() -> None:
    assert mapped_now(2**22 + 1) == []


def test_a_call_site_is_a_key_of_a_map() -> None:
    """It is made on the BPF stack, beside what else is there: 512 bytes."""
    assert LAYOUT.call_site_size <= 256
