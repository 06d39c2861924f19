"""Processes of strangers, of which `explain --stacks -p` reads what they have mapped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attack.bounded import python

# One page of a file, executable, so often; two that lie side by side are of different pages.
MAPPER = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
file = os.open(sys.argv[1], os.O_RDONLY)
for number in range(int(sys.argv[2])):
    if libc.mmap(None, 4096, 5, 2, file, number % 2 * 4096) == ctypes.c_void_p(-1).value:
        break
print("mapped", flush=True)
sys.stdin.read()
"""
SCRIPT = """
import json, sys
from pte_trace.symbols import mapped

code = mapped.code(int(sys.argv[1]))
print(json.dumps([[each.start, each.end, each.inode, each.name] for each in code]))
"""


@contextmanager
def mapping(path: Path | str, number: int, cwd: Path) -> Iterator[int]:
    """The PID of a process that has mapped *path* so often."""
    with subprocess.Popen(
        [sys.executable, "-c", MAPPER, str(path), str(number)],
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mapped\n"
        try:
            yield process.pid
        finally:
            process.kill()


def code(pid: int) -> list[tuple[int, int, int, str]]:
    return [tuple(each) for each in json.loads(python(SCRIPT, pid).check(0).stdout)]


def test_more_mappings_than_are_of_use(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with mapping(path, 60_000, tmp_path) as pid:
        found = code(pid)
    assert 1000 < len(found) <= 16_384
    assert {each[3] for each in found} >= {str(path)}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A directory whose path, longer than any that can be named, has lines of its own in it."""
    forged = "7f0000005000-7f0000006000 r-xp 00000000 fd:01 78 [vforged] "
    before = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        for number in range(90):
            name = (" " * (number % len(forged)) + forged * 5)[:250]
            os.mkdir(name)
            os.chdir(name)
        Path("file").write_bytes(bytes(8192))
        yield Path.cwd() if len(os.getcwd()) < 4096 else Path(f"/proc/{os.getpid()}/cwd")
    finally:
        os.chdir(before)
        os.close(before)
        subprocess.run(["rm", "-rf", tmp_path], check=True)


def test_a_path_that_is_longer_than_a_line_is_no_other_line(deep: Path, tmp_path: Path) -> None:
    with mapping("file", 4, deep) as pid:
        maps = Path(f"/proc/{pid}/maps").read_bytes()
        found = code(pid)
    assert max(map(len, maps.split(b"\n"))) > 20_000
    assert [each for each in found if each[0] == 0x7F0000005000] == []
    assert {each[3][:9] for each in found} >= {"/usr/bin/", "[vdso]"}


@pytest.mark.parametrize(
    "name",
    [
        b"a\n7f0000005000-7f0000006000 r-xp 00000000 fd:01 78 [vforged]",
        b"\x1b]0;x\x07\x1b[2J",
        b"\xff\xfe\x80",
        "a\u202etxt\u2028b".encode(),
        b"n" * 255,
    ],
)
def test_a_name_of_anything_is_one_mapping(tmp_path: Path, name: bytes) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    Path(path).write_bytes(bytes(8192))
    with mapping(path, 1, tmp_path) as pid:
        found = code(pid)
    (theirs,) = (each for each in found if each[2] == os.stat(path).st_ino)
    assert theirs[3].startswith(f"{tmp_path}/")
    assert [each for each in found if each[0] == 0x7F0000005000] == []
