"""From the addresses of a stack to names, and from calls to the mappings they changed."""

from __future__ import annotations

import ctypes
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pte_trace.counted import stacks
from pte_trace.counted.mapping import JIT, Event, Frame, Stack
from pte_trace.counted.packed import LAYOUT
from pte_trace.counted.stacks import (
    Code,
    CodeMapping,
    Named,
    Place,
    RawStack,
    by_vma,
    decode_code,
    decode_stacks,
    of_unknown_code,
    places,
    shortened,
)
from pte_trace.symbols import mapped
from tests.builders import counts, record, snapshot
from tests.unit.test_reading import pack, path_record

LIBC = CodeMapping(100, 1000, 0x7000, 0x8000, 0x2000, 11, 5, "/lib/libc.so.6")
PROGRAM = CodeMapping(100, 1000, 0x4000, 0x5000, 0, 12, 5, "/bin/program")
JITTED = CodeMapping(100, 1000, 0x9000, 0xA000, 0, 0, 0, JIT)
VMA = record().key
CHANGED = Event("protection_changes", "mprotect")
WROTE = Event("write_faults", "wp_reuse", "user")


def symbolize(place: Place) -> Named:
    """As if every file had one function, at its beginning, and were loaded at 0x100000."""
    end = place.offset + place.after
    return Named(f"f{place.mapping.inode}+{end:#x}", 0x100000 + end)


def call(*frames: int, top: int = 0, **changes: Any) -> RawStack:
    return RawStack(**{"vma": VMA, "event": CHANGED, **changes}, stack_top=top, frames=frames)


def frames_of(raw: RawStack, *mappings: CodeMapping) -> tuple[Frame, ...]:
    code = Code(mappings or (LIBC, PROGRAM, JITTED), {})
    ((stack,),) = by_vma({raw: 1}, code, symbolize).values()
    return stack.frames


def addresses(raw: RawStack) -> list[int]:
    return [frame.address for frame in frames_of(raw)]


def test_a_frame_is_named_by_the_instruction_before_the_address() -> None:
    (frame,) = frames_of(call(0x7010))
    assert frame == Frame(0x7010, "/lib/libc.so.6", 0x102010, "f11+0x2010")


def test_an_instruction_that_wrote_is_at_its_address_and_not_before_it() -> None:
    wrote = call(0x7000, 0x4000 + 0x10, event=WROTE)
    first, caller = frames_of(wrote)
    assert first == Frame(0x7000, "/lib/libc.so.6", 0x102000, "f11+0x2000")
    assert caller == Frame(0x4010, "/bin/program", 0x100010, "f12+0x10")
    assert places([wrote], Code((LIBC, PROGRAM))) == {
        Place(LIBC, 0x2000, 0),
        Place(PROGRAM, 0xF, 1),
    }


def test_where_the_kernel_wrote_it_was_called_before_the_address() -> None:
    """A call that ends a file's code is in it, and its return address is not."""
    asked = call(0x8000, event=Event("write_faults", "other", "kernel"))
    (frame,) = frames_of(asked)
    assert frame == Frame(0x8000, "/lib/libc.so.6", 0x103000, "f11+0x3000")


def test_another_process_that_writes_has_no_frames() -> None:
    assert frames_of(call(event=Event("write_faults", "wp_copy", "remote"))) == ()


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
    gone = CodeMapping(100, 1000, 0x7000, 0x8000, 0, 11, 5, "/lib/libc.so.6 (deleted)")
    (frame,) = frames_of(call(0x7010), gone)
    assert frame == Frame(0x7010, "/lib/libc.so.6 (deleted)", unnamed="the file was deleted")


def test_a_frame_without_a_name_says_why() -> None:
    found = by_vma({call(0x7010): 1}, Code([LIBC], {}), lambda _: Named(address=7, why="stripped"))
    (frame,) = found[VMA][0].frames
    assert frame == Frame(0x7010, "/lib/libc.so.6", 7, None, "stripped")


def test_all_places_that_are_to_be_named_are_known_at_once() -> None:
    code = Code((LIBC, PROGRAM, JITTED), {})
    seen = [call(0x7010, 0x4100, top=0x4020), call(0x9010, 0x4100), call(0x66)]
    assert places(seen, code) == {
        Place(LIBC, 0x200F),
        Place(PROGRAM, 0x1F),
        Place(PROGRAM, 0xFF),
    }


def test_a_call_of_which_no_address_is_known_is_counted_all_the_same() -> None:
    assert frames_of(call()) == ()


def test_another_program_of_the_process_is_not_looked_in() -> None:
    code = Code([LIBC], {})
    assert code.find(100, 1000, 0x7010) == LIBC
    assert code.find(100, 1001, 0x7010) is None
    assert code.find(101, 1000, 0x7010) is None


def test_what_was_read_of_a_running_process_is_of_any_program() -> None:
    mapping = CodeMapping(100, None, 0x7000, 0x8000, 0, 11, 5, "/lib/libc.so.6")
    assert Code([mapping], {}).find(100, 5, 0x7010) == mapping


def test_a_forked_process_has_its_forebears_code() -> None:
    code = Code([LIBC], {102: 101, 101: 100, 100: 1})
    assert code.find(102, 3000, 0x7010) == LIBC
    assert code.find(102, 3000, 0x6010) is None


def test_parents_in_a_circle_are_no_endless_loop() -> None:
    """A PID may have been given anew."""
    assert Code([], {1: 2, 2: 1}).find(1, 0, 0x7010) is None


def test_the_later_mapping_of_a_place_holds() -> None:
    newer = CodeMapping(100, 1000, 0x7800, 0x9000, 0, 13, 5, "/lib/other.so")
    code = Code([LIBC, newer], {})
    assert code.find(100, 1000, 0x7900) == newer
    assert code.find(100, 1000, 0x7100) == LIBC


RANGES = st.tuples(st.integers(0, 20), st.integers(0, 20), st.sampled_from([1, 2, None]))


@given(ranges=st.lists(RANGES, max_size=12), image=st.sampled_from([1, 2]))
def test_of_any_mappings_the_latest_holds(
    ranges: list[tuple[int, int, int | None]], image: int
) -> None:
    mappings = [
        CodeMapping(1, of, start, end, 0, number, 0, "/x")
        for number, (start, end, of) in enumerate(ranges)
    ]
    code = Code(mappings, {2: 1})
    for address in range(21):
        there = [each for each in mappings if each.start <= address < each.end]
        own = [each for each in there if each.image in (image, None)]
        assert code.find(1, image, address) == (own[-1] if own else None)
        assert code.find(2, image, address) == (there[-1] if there else None)


def test_many_mappings_are_no_reason_to_wait() -> None:
    pages = range(0, 1 << 28, 1 << 12)
    code = Code((CodeMapping(1, 1, at, at + 4096, 0, at, 0, "/x") for at in pages), {})
    began = time.monotonic()
    assert all(code.find(1, 1, at) for at in pages)
    assert time.monotonic() - began < 5


def test_of_very_many_stacks_the_rarer_ones_are_cut_and_none_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacks, "_MOST_STACKS", 2)
    stacks_seen = {
        call(0x7010, 0x4100, top=0x4020): 9,
        call(0x7010, 0x4200): 1,
        call(0x7010, 0x4300): 2,
        call(0x7010, 0x4400): 8,
        call(0x7020, 0x4400): 1,
    }
    assert shortened(stacks_seen) == {
        call(0x7010, 0x4100, top=0x4020): 9,
        call(0x7010, 0x4400): 8,
        call(0x7010): 3,
        call(0x7020): 1,
    }


def test_no_more_forebears_are_asked_than_may_matter() -> None:
    chain = {pid: pid - 1 for pid in range(1, 100_000)}
    assert Code([], chain).find(99_999, 1, 0x1000) is None


def test_calls_belong_to_the_vma_they_changed() -> None:
    elsewhere = record(start=0x50000, end=0x60000)
    shared = record(perms="rw-s")
    named = by_vma({call(0x4010): 1}, Code([], {}), symbolize)
    made = snapshot(record(), elsewhere, shared, stacks=named, split=True)
    found = {(row.start, row.perms): row.stacks for row in made.vmas}
    assert found.pop((record().start, record().perms)) == (Stack(CHANGED, (Frame(0x4010),), 1),)
    assert list(found.values()) == [(), ()]


def test_a_mappings_calls_are_those_of_its_vmas_together() -> None:
    beside = record(start=0x20000, end=0x30000)
    armed = Event("protection_changes", "uffd_wp")
    seen = {
        call(0x4010): 2,
        call(0x4010, vma=beside.key): 3,
        call(0x4030): 4,
        call(0x4010, event=armed): 1,
    }
    named = by_vma(seen, Code([], {}), symbolize)
    made = snapshot(record(counts=counts({"mprotect": 9})), beside, stacks=named)
    (row,) = made.vmas
    assert [(stack.event, stack.count, stack.frames[0].address) for stack in row.stacks] == [
        (CHANGED, 5, 0x4010),
        (CHANGED, 4, 0x4030),
        (armed, 1, 0x4010),
    ]
    assert list(made.stacks) == [(row, stack) for stack in row.stacks]


def test_stacks_are_decoded() -> None:
    vma = {
        "tgid": 7,
        "image": 8,
        "start": 0x1000,
        "end": 0x2000,
        "inode": 9,
        "dev": 10,
        "shared": 1,
    }
    frames = [0x7010, 0x4100]
    sites = [
        {"vma": vma, "stack_top": 0x4020, "frames": frames, "what": 2},
        {"vma": vma, "frames": frames, "event": 1, "what": 1, "origin": 1},
        {"vma": vma, "event": 1, "what": 1, "origin": 2},
    ]
    numbers = b"".join(number.to_bytes(8, "little") for number in (5, 6, 7))
    found = decode_stacks(b"".join(pack("call_site", site) for site in sites), numbers, 3)
    key = (7, 8, 0x1000, 0x2000, 9, 10, True)
    assert found == {
        RawStack(key, Event("protection_changes", "uffd_wp"), 0x4020, (0x7010, 0x4100)): 5,
        RawStack(key, Event("write_faults", "wp_copy", "kernel"), 0, (0x7010, 0x4100)): 6,
        RawStack(key, Event("write_faults", "wp_copy", "remote"), 0, ()): 7,
    }


def test_programs_of_which_no_code_is_known_are_looked_at() -> None:
    """But for one that was executed since: what the process maps now is not what it was."""
    code = Code([LIBC, CodeMapping(103, 7, 0x7000, 0x8000, 0, 11, 5, "/lib/libc.so.6")])
    other = call(0x7010, vma=record(pid=102).key)
    executed = call(0x7010, vma=record(pid=103).key)
    none = call(event=WROTE, vma=record(pid=104).key)
    assert of_unknown_code([call(0x7010), other, executed, none], code) == {(102, 1000)}


def test_of_very_many_mappings_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "_MOST_MAPPINGS", 4)
    code = Code()
    for at in range(20):
        code.note([CodeMapping(1, 1, at, at + 1, 0, at, 0, "/x")])
    known = [at for at in range(20) if code.find(1, 1, at)]
    assert known == list(range(20 - len(known), 20))
    assert 4 <= len(known) <= 8


def test_code_is_decoded_in_the_order_in_which_it_was_mapped() -> None:
    keys = [{"image": 8, "start": 0x5000, "tgid": 7}, {"image": 8, "start": 0x1000, "tgid": 7}]
    values = [
        {"mapped_ns": 2, "end": 0x6000},
        {"mapped_ns": 1, "end": 0x2000, "offset": 0x800, "inode": 9, "dev": 10, "path": 1},
    ]
    decoded = decode_code(
        b"".join(pack("code_key", key) for key in keys),
        b"".join(pack("code_record", value) for value in values),
        2,
        lambda key: path_record("ls", "bin"),
    )
    assert list(decoded) == [
        CodeMapping(7, 8, 0x1000, 0x2000, 0x800, 9, 10, "/bin/ls (deleted)"),
        CodeMapping(7, 8, 0x5000, 0x6000, 0, 0, 0, JIT),
    ]


def test_a_running_process_says_what_code_it_has() -> None:
    """Against an address in the C library that is mapped into this very process."""
    libc = ctypes.CDLL(None)
    address = ctypes.cast(libc.mprotect, ctypes.c_void_p).value
    assert address is not None
    found = Code(mapped.code(os.getpid()), {}).find(os.getpid(), 0, address)
    assert found is not None
    there = os.stat(found.name)
    assert there.st_ino == found.inode
    assert os.makedev(found.dev >> 20, found.dev & 0xFFFFF) == there.st_dev
    (line,) = (
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.startswith(f"{found.start:x}-")
    )
    assert re.match(rf"{found.start:x}-{found.end:x} r-xp 0*{found.offset:x} ", line)


def test_a_process_that_is_gone_has_no_code() -> None:
    assert mapped.code(2**22 + 1) == []


def test_a_call_site_is_a_key_of_a_map() -> None:
    """It is made on the BPF stack, beside what else is there: 512 bytes."""
    assert LAYOUT.call_site_size <= 256
