"""Run a command line and exit. The only place that prints errors and the only one that exits."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

import click

from pte_trace.cli import cli
from pte_trace.errors import PteTraceError
from pte_trace.views.printable import printable

_FAILED = 1
_INTERRUPTED = 130
# A disk that is full, or broken; a terminal that was closed.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        status = _run()
    finally:
        _drop_what_nobody_takes()
    if threading.active_count() > 1:
        # One that is inside the compiler cannot be waited for, nor can the compiler be unloaded.
        os._exit(status)
    sys.exit(status)


def _end(number: int, frame: FrameType | None) -> None:
    """As Ctrl-C does: a terminal is put back, what was begun is taken down."""
    raise SystemExit(128 + number)


def _status(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else _FAILED


def _under_way(error: BaseException) -> SystemExit | None:
    """The end that *error* came in the way of: a closed terminal first sends its signal."""
    before = error.__context__
    if before is None or isinstance(before, SystemExit):
        return before
    return _under_way(before)


def _drop_what_nobody_takes() -> None:
    """Keep the interpreter from complaining at its exit of output that cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _say(*said: str) -> None:
    """*said* may have lines: the end of a log."""
    shown = ("\n".join(map(printable, each.split("\n"))) for each in said if each)
    with suppress(OSError):
        print(*shown, sep="\n  ", file=sys.stderr, flush=True)


def _run() -> int:
    try:
        status = cli.main(prog_name="pte-trace", standalone_mode=False)
    except PteTraceError as error:
        _say(f"pte-trace: {error.what}", error.mend)
        return error.exit_status
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except SystemExit as ended:
        return _status(ended)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        hung_up = _under_way(error) if error.errno == errno.EIO else None
        if hung_up:
            return _status(hung_up)
        _say(
            f"pte-trace: {error.filename or 'The output'} cannot be written: {error.strerror}.",
            "Free some space, or send the output elsewhere.",
        )
        return _FAILED
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()
