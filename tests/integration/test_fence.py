"""The process in which a stranger's things are looked at: what it may, and what comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pte_trace import fence
from pte_trace.fence import Answer, Bounds, RefusedError, ask
from pte_trace.kernel.rights import NOBODY

BOUNDS = Bounds(seconds=5, memory=32 << 20, answer=1 << 16)
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")


def said(*pieces: bytes) -> Iterator[bytes]:
    yield from pieces


def test_what_it_says_comes_back() -> None:
    assert ask(lambda _: said(b"a", b"b"), BOUNDS) == Answer(b"ab", None)


def test_it_reads_the_file_that_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    answer = ask(
        lambda file: said(os.pread(file, 100, 0)), BOUNDS, lambda: os.open(path, os.O_RDONLY)
    )
    assert answer == Answer(b"content", None)


@ROOT
def test_it_has_no_rights_and_no_other_file() -> None:
    with tempfile.NamedTemporaryFile() as ours:

        def look(file: int) -> Iterator[bytes]:
            status = Path("/proc/self/status").read_text()
            yield "".join(
                f"{line}\n"
                for line in status.splitlines()
                if line.startswith(("Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:"))
            ).encode()
            there = set(map(int, os.listdir("/proc/self/fd")))
            yield f"{len(there - {0, 1, 2})} files\n".encode()
            yield from (os.readlink(f"/proc/self/fd/{each}").encode() + b"\n" for each in range(3))
            try:
                os.open(ours.name, os.O_RDONLY)
            except PermissionError:
                yield b"refused\n"

        answer = ask(look, BOUNDS)
    four = "\t".join([str(NOBODY)] * 4)
    lines = answer.said.decode().splitlines()
    assert f"Uid:\t{four}" in lines
    assert f"Gid:\t{four}" in lines
    assert "NoNewPrivs:\t1" in lines
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"{name}:\t{0:016x}" in lines
    # The one to read, the one to answer, and that of the listing itself.
    assert lines[-5:] == ["3 files", *["/dev/null"] * 3, "refused"]


def refusing(_: int) -> Iterator[bytes]:
    yield b"so far"
    raise RefusedError("enough")


def filling(_: int) -> Iterator[bytes]:
    yield b"so far"
    yield str(len([bytes(1 << 20) for _ in range(1000)])).encode()


def waiting(_: int) -> Iterator[bytes]:
    yield b"so far"
    time.sleep(1000)


def busy(_: int) -> Iterator[bytes]:
    yield b"so far"
    while True:
        pass


def crashing(_: int) -> Iterator[bytes]:
    yield b"so far"
    os.kill(os.getpid(), signal.SIGSEGV)


def confused(_: int) -> Iterator[bytes]:
    yield b"so far"
    yield [b""][1]


@pytest.mark.parametrize(
    ("look", "why"),
    [
        (refusing, "enough"),
        (filling, "it takes too much memory"),
        (waiting, "it takes too long"),
        (busy, "it takes too long"),
        (crashing, "reading it failed (SIGSEGV)"),
        (confused, "it contradicts itself"),
    ],
)
def test_whatever_becomes_of_it_there_is_an_answer_and_why_it_is_not_all(
    look: fence.Look, why: str
) -> None:
    assert ask(look, BOUNDS._replace(seconds=1)) == Answer(b"so far", why)


def test_an_answer_has_an_end() -> None:
    answer = ask(lambda _: said(*[b"x" * 1000] * 1000), BOUNDS)
    assert answer == Answer(b"x" * BOUNDS.answer, "it has too much to say")


def test_nothing_is_opened_that_is_refused() -> None:
    def opened() -> int:
        raise RefusedError("another file")

    assert ask(lambda _: said(b"never"), BOUNDS, opened) == Answer(b"", "another file")


def test_without_processes_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = os.listdir("/proc/self/fd")
    answer = ask(lambda _: said(b"never"), BOUNDS)
    assert answer.said == b""
    assert answer.why is not None
    assert answer.why.startswith("no process could be started")
    assert len(os.listdir("/proc/self/fd")) == len(before)


ENDLESS = """
import sys, time
from pte_trace.fence import Bounds, ask

def look(_):
    yield b""
    time.sleep(1000)

def opened():
    import os
    print(os.getpid(), flush=True)
    return os.open("/dev/null", os.O_RDONLY)

ask(look, Bounds(1000, 1 << 25, 1 << 16), opened)
"""


def test_it_ends_with_its_parent() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        time.sleep(0.5)  # until it has asked to be told
        assert child.exists()
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while child.exists() and b"Z" not in (child / "stat").read_bytes().rpartition(b")")[2]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
