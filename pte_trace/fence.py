"""Look at what a stranger made in a process that has no rights, and little of everything else.

What is looked at may be made to harm whoever reads it: to fill the memory, to take for ever, or
worse. Whatever becomes of that process, there is an answer.
"""

from __future__ import annotations

import math
import mmap
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from pte_trace.kernel import rights

_BLOCK = 1 << 16
_MAY_END_S = 1.0
_POLL_S = 0.002
_OPEN_FILES = 16
_PR_SET_PDEATHSIG = 1
_OUT_OF_TIME = (signal.SIGXCPU, signal.SIGKILL)
# Between an answer and why there is no more of it.
_WHY = b"\0"
_LONGEST_WHY = 200


class RefusedError(Exception):
    """What is to be looked at is not looked at, or no further; the message says why."""


Look = Callable[[int], Iterable[bytes]]


class Bounds(NamedTuple):
    """For how many seconds, with how much more memory than this process has, how long an answer."""

    seconds: float
    memory: int
    answer: int


class Answer(NamedTuple):
    """What was said; ``why`` there is no more of it, None where that is all."""

    said: bytes
    why: str | None


def ask(
    look: Look,
    bounds: Bounds,
    opened: Callable[[], int] = lambda: os.open(os.devnull, os.O_RDONLY),
) -> Answer:
    """What *look* yields of the descriptor that *opened* returns, both called in a child.

    *opened* still has our rights, *look* has none, and no other file of ours. Either may raise
    `RefusedError`, or anything else. The child's answer is a stranger's, too.
    """
    receiver, sender = os.pipe()
    try:
        parent, child = os.getpid(), os.fork()
    except OSError as error:
        os.close(sender)
        os.close(receiver)
        return Answer(b"", f"no process could be started to read it: {error.strerror}")
    if child == 0:
        _in_the_child(look, bounds, opened, sender, parent)
    os.close(sender)
    try:
        said, why = _received(receiver, bounds)
    finally:
        os.close(receiver)
        ended = _end(child)
    said, _, refused = said.partition(_WHY)
    shown = refused.decode("utf-8", "backslashreplace")[:_LONGEST_WHY]
    return Answer(said, why or shown or _unexpected(ended))


def _received(receiver: int, bounds: Bounds) -> tuple[bytes, str | None]:
    said = bytearray()
    until = time.monotonic() + bounds.seconds
    waiting = select.poll()
    waiting.register(receiver, select.POLLIN)
    while len(said) <= bounds.answer:
        left = until - time.monotonic()
        if left <= 0 or not waiting.poll(math.ceil(left * 1000)):
            return bytes(said), "it takes too long"
        block = os.read(receiver, _BLOCK)
        if not block:
            return bytes(said), None
        said += block
    return bytes(said[: bounds.answer]), "it has too much to say"


def _end(child: int) -> int | None:
    """The wait status of *child*, killed unless it ends by itself.

    None where it does not even then: a file system of the stranger's may hold it.
    """
    for kill in (False, True):
        if kill:
            os.kill(child, signal.SIGKILL)
        until = time.monotonic() + _MAY_END_S
        while time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            time.sleep(_POLL_S)
    return None


def _unexpected(status: int | None) -> str | None:
    """Why there may be no whole answer, by the wait status; None where nothing was wrong."""
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number in _OUT_OF_TIME:
            return "it takes too long"
        return f"reading it failed ({signal.Signals(number).name})"
    return None


def _in_the_child(
    look: Look,
    bounds: Bounds,
    opened: Callable[[], int],
    sender: int,
    parent: int,
) -> NoReturn:
    with suppress(BaseException):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        try:
            _limit(bounds)
            file = opened()
            _fence_in(file, sender, parent)
            for piece in look(file):
                _send(sender, piece)
        except RefusedError as error:
            _send(sender, _WHY + str(error).encode("utf-8", "backslashreplace"))
        except MemoryError:
            _send(sender, _WHY + b"it takes too much memory")
        except OSError as error:
            _send(sender, _WHY + (error.strerror or "it cannot be read").lower().encode())
        except Exception:
            _send(sender, _WHY + b"it contradicts itself")
    os._exit(0)


def _limit(bounds: Bounds) -> None:
    has = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    seconds = math.ceil(bounds.seconds)
    for what, most in (
        (resource.RLIMIT_AS, has + bounds.memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _lower(what, most)


def _lower(what: int, most: int) -> None:
    """Who called us may have set it lower."""
    now = resource.getrlimit(what)[1]
    most = most if now == resource.RLIM_INFINITY else min(most, now)
    resource.setrlimit(what, (most, most))


def _fence_in(file: int, sender: int, parent: int) -> None:
    """Without rights, and with these two files alone."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    first, last = sorted((file, sender))
    os.closerange(3, first)
    os.closerange(first + 1, last)
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))
    _lower(resource.RLIMIT_NOFILE, max(_OPEN_FILES, last + 2))
    rights.give_up_all()
    _lower(resource.RLIMIT_NPROC, 0)
    # Only now: the kernel forgets it where rights change.
    rights.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise RefusedError("nobody waits for it")


def _send(sender: int, piece: bytes) -> None:
    left = memoryview(piece)
    while left:
        left = left[os.write(sender, left) :]
