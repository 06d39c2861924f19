"""Start what is to be traced, from its first instruction on, and be there for its signals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from pte_trace.errors import CommandError
from pte_trace.session import Session

# So often that what has ended leaves room in the kernel's tables for what comes.
READING_S = 1.0

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_ENDING = (signal.SIGINT, *_FORWARDED)


@contextmanager
def running(command: Sequence[str], session: Session) -> Iterator[subprocess.Popen[bytes]]:
    """*command*, started and traced by *session*. Raises CommandError.

    While it runs its end is ours: Ctrl-C reaches it by the terminal, others we pass on. What
    comes while it is being started is passed on once it is there.
    """
    early: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int) -> None:
        with suppress(ProcessLookupError):
            started[0].send_signal(number)

    def handle(number: int, frame: FrameType | None) -> None:
        if not started:
            early.append(number)
        elif number in _FORWARDED:
            pass_on(number)

    with _handled(_ENDING, handle):
        started.append(_start(command, session))
        for number in early:
            pass_on(number)
        yield started[0]


def _start(command: Sequence[str], session: Session) -> subprocess.Popen[bytes]:
    try:
        with session.following():
            return subprocess.Popen(command)
    except OSError as error:
        raise _not_started(command[0], error) from error


def wait(
    child: subprocess.Popen[bytes], pauses: Iterable[float], meanwhile: Callable[[], object]
) -> int:
    """The return code of *child* when it has ended; *meanwhile* is called after each pause."""
    end = os.pidfd_open(child.pid)
    try:
        for pause in pauses:
            if select.select([end], [], [], pause)[0]:
                break
            meanwhile()
    finally:
        os.close(end)
    return child.wait()


def status(returncode: int) -> int:
    """As a shell has it: 128 + N where signal N ended the command."""
    return 128 - returncode if returncode < 0 else returncode


def _not_started(command: str, error: OSError) -> CommandError:
    # An empty name is looked for as a directory of $PATH.
    if isinstance(error, FileNotFoundError) or not command:
        return CommandError(
            f"The command `{command}` was not found, or what its first line names to run it.",
            "Give its path, or see $PATH.",
            _NOT_FOUND,
        )
    return CommandError(
        f"The command `{command}` cannot be executed: {error.strerror}.",
        "See `ls -l` and `file` of it; chmod +x makes a file executable.",
        _NOT_EXECUTABLE,
    )


@contextmanager
def signals_end() -> Iterator[threading.Event]:
    """An event that Ctrl-C and the signals to end set, instead of ending this process."""
    stopped = threading.Event()
    with _handled(_ENDING, lambda number, frame: stopped.set()):
        yield stopped


@contextmanager
def _handled(
    numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    """What signals do meanwhile; one that is ignored, as nohup(1) has it, stays ignored."""
    before = {number: signal.getsignal(number) for number in numbers}
    taken = {number: each for number, each in before.items() if each is not signal.SIG_IGN}
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, each in taken.items():
            signal.signal(number, each)
