"""What /proc and /sys say, damaged or by hostile names: read right, or not known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pte_trace.counted.mapping import JIT
from pte_trace.counted.stacks import CodeMapping, code_in
from pte_trace.host import facts
from tests.fuzz.examples import one_of

ANYTHING = st.binary(max_size=200)
# What the kernel lets a file's name have in /proc/PID/maps: it writes a newline as \\012.
NAMES = st.binary(max_size=60).filter(lambda name: b"\n" not in name)


def line(name: bytes) -> bytes:
    return b"7f0000001000-7f0000002000 r-xp 00003000 fd:01 77 %s/%s\n" % (b" " * 20, name)


@given(names=st.lists(NAMES, max_size=4))
@example(names=[b"a\x0b7f0000005000-7f0000006000 r-xp 00000000 fd:01 78 /bin/forged"])
@example(names=["a\u20287f0000005000-7f0000006000 r-xp 00000000 fd:01 78 /bin/forged".encode()])
def test_each_line_is_one_mapping_whatever_its_name(names: list[bytes]) -> None:
    found = list(code_in(b"".join(map(line, names)).split(b"\n"), 5))
    shown = [f"/{name.decode('utf-8', 'backslashreplace')}" for name in names]
    assert found == [
        CodeMapping(5, None, 0x7F0000001000, 0x7F0000002000, 0x3000, 77, 0xFD00001, name)
        for name in shown
    ]


@given(before=ANYTHING, after=ANYTHING)
def test_lines_that_are_none_are_passed_over(before: bytes, after: bytes) -> None:
    found = list(code_in((before + b"\n" + line(b"bin/x") + after).split(b"\n"), 5))
    assert [each.inode for each in found if each.name != JIT].count(77) >= 1


READERS: dict[str, Callable[[], object]] = {
    "_STATUS": facts._capabilities,
    "_LOCKDOWN": facts._lockdown,
    "_CPUINFO": facts._five_level_page_tables,
    "_FTRACE_ENABLED": facts._ftrace_enabled,
    "_PREEMPTION": lambda: facts._preemptible("PREEMPT_DYNAMIC"),
    "_KPTR_RESTRICT": lambda: facts._number(facts._KPTR_RESTRICT),
    "_KPROBES_ARMED": lambda: facts._switch(facts._KPROBES_ARMED),
}
BEGINNINGS = [b"", b"flags : la57\n", b"none [integrity] ", b"CapEff:\t00ff", b"none (full) ", b"1"]


@pytest.mark.parametrize("name", READERS)
@one_of(2)
@given(begin=st.sampled_from(BEGINNINGS), rest=ANYTHING)
@example(begin=b"", rest=b"1" * 5000)
@example(begin=b"CapEff:\t", rest=b"f" * 5000 + b"\n")
def test_a_fact_is_read_or_not_known(tmp_path: Path, name: str, begin: bytes, rest: bytes) -> None:
    path = tmp_path / "fact"
    path.write_bytes(begin + rest)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(facts, name, path)
        READERS[name]()
