"""Start what is to be traced, from its first instruction on, and be there for its signals."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from pte_trace.errors import CommandError
from pte_trace.session import Session

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_ENDING = (signal.SIGINT, *_FORWARDED)


def start(command: Sequence[str], session: Session) -> subprocess.Popen[bytes]:
    """Start *command*, traced by *session*. Raises CommandError."""
    try:
        with session.following():
            return subprocess.Popen(command)
    except OSError as error:
        raise _not_started(command[0], error) from error


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
def signals_reach(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """While *child* runs its end is ours: Ctrl-C reaches it by the terminal, others we pass on."""

    def forward(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            child.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_end() -> Iterator[threading.Event]:
    """An event that Ctrl-C and the signals to end set, instead of ending this process."""
    stopped = threading.Event()
    before = {
        number: signal.signal(number, lambda number, frame: stopped.set()) for number in _ENDING
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
