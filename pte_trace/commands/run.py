"""`pte-trace run`: trace a command and its children, report when it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import getpid
from types import FrameType

import click

from pte_trace.commands import options
from pte_trace.errors import CommandError
from pte_trace.records import TRACING
from pte_trace.session import Session
from pte_trace.views import write

_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@options.tracing(children=True)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(request: options.Request, command: tuple[str, ...]) -> None:
    """Trace COMMAND and all its children, and print a report when it ends.

    They are traced from their first instruction on; with -p, so are processes that run
    already, meanwhile. The text report goes to standard error, as `perf stat` does, JSON and
    CSV go to standard output; -o FILE takes either. The exit status is COMMAND's own (128 + N
    where signal N ended it; 127 where it was not found, 126 where it cannot be executed).

    \b
    Examples:
      sudo pte-trace run -- ./program --its-option
      sudo pte-trace run --format json -o faults.json -- make -j8
      sudo pte-trace run -c postgres -- ./benchmark.sh
    """
    default = sys.stderr if request.style == "text" else sys.stdout
    with request.output(default) as stream, request.session() as session:
        session.start()
        status = _run(command, session)
        session.read()
        write.report(session.total(), request.style, stream)
    click.get_current_context().exit(status)


def _run(command: tuple[str, ...], session: Session) -> int:
    driver = session.driver
    # What this process starts is followed from its exec on; this process is not.
    driver.follow(getpid(), TRACING["never"])
    try:
        child = subprocess.Popen(command)
    except OSError as error:
        raise _not_started(command[0], error) from error
    finally:
        driver.unfollow(getpid())
    with _signals_reach(child):
        returncode = child.wait()
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
def _signals_reach(child: subprocess.Popen[bytes]) -> Iterator[None]:
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
