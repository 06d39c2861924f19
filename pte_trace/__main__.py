"""Run a command line and exit. The only place that prints errors and the only one that exits."""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

from pte_trace.errors import HostError, PteTraceError
from pte_trace.views.printable import printable

_FAILED = 1
_INTERRUPTED = 130
# A disk that is full, or broken, or a limit; a terminal, or standard output, that was closed.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_ENDING = (signal.SIGTERM, signal.SIGHUP)
# What may run out, by how it is told: an error number, or words of an error of another kind.
_MEMORY = "Memory", "Free some, or raise the limit: ulimit -v"
_EXHAUSTED = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: ("Room for open files", "Raise the limit: ulimit -n"),
    errno.ENFILE: ("Room for open files", "Raise the limit: sysctl fs.file-max"),
    errno.EAGAIN: ("Room for processes", "Raise the limit: ulimit -u"),
}
_EXHAUSTED_IN_WORDS = {
    "Cannot allocate memory": _MEMORY,
    "cannot allocate memory": _MEMORY,
    "failed to map segment": _MEMORY,
    "can't start new thread": _EXHAUSTED[errno.EAGAIN],
    # CPython's SystemError where a MemoryError was lost on its way up, as in an import.
    "without setting an exception": _MEMORY,
    "without exception set": _MEMORY,
}
# Of the extra `recordings`: three times as large as all the rest. By what imports call them.
_RECORDINGS = {"pandas": "pandas", "plotly": "plotly", "pyarrow": "pyarrow", "google": "protobuf"}


def main() -> None:
    _prepare_streams()
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


def _prepare_streams() -> None:
    """What is closed has its place taken, or another file would get its number.

    What is written to a closed standard output fails, as it should.
    """
    for name, flags, mode in (
        ("stdin", os.O_RDONLY, "r"),
        ("stdout", os.O_RDONLY, "w"),
        ("stderr", os.O_WRONLY, "w"),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # of whatever encoding the caller has
            stream.reconfigure(errors="backslashreplace")


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
        status = _command_line()
        sys.stdout.flush()
    except PteTraceError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as ended:
        return _status(ended)
    except BrokenPipeError:
        return _FAILED
    except (OSError, ImportError, RuntimeError, MemoryError, SystemError) as error:
        if named := _exhausted(error) or _lacking(error):
            return _failed(named)
        if not isinstance(error, OSError) or error.errno not in _UNWRITABLE:
            raise
        hung_up = _under_way(error) if error.errno == errno.EIO else None
        if hung_up:
            return _status(hung_up)
        return _failed(
            PteTraceError(
                f"{error.filename or 'The output'} cannot be written: {error.strerror}.",
                "Free some space, or send the output elsewhere.",
            )
        )
    return status


def _command_line() -> int:
    """Imported only here, where it may fail for want of memory."""
    import click

    from pte_trace.cli import cli

    try:
        status = cli.main(prog_name="pte-trace", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return _INTERRUPTED
    return status if isinstance(status, int) else 0


def _failed(error: PteTraceError) -> int:
    _say(f"pte-trace: {error.what}", error.mend)
    return error.exit_status


def _exhausted(error: BaseException) -> HostError | None:
    """That there is no more of something, if that is what *error* or its cause tells."""
    found = _MEMORY if isinstance(error, MemoryError) else None
    if isinstance(error, OSError):
        found = _EXHAUSTED.get(error.errno or 0)
    for words, what in _EXHAUSTED_IN_WORDS.items():
        found = found or (what if words in str(error) else None)
    if found:
        return HostError(f"{found[0]} ran out.", found[1])
    return _exhausted(error.__cause__) if error.__cause__ else None


def _lacking(error: BaseException) -> PteTraceError | None:
    """That a part of the full installation is not there, if that is what *error* tells."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    package = _RECORDINGS.get((error.name or "").partition(".")[0])
    if package is None:
        return None
    sudo = "" if os.stat(sys.prefix).st_uid else "sudo "
    return PteTraceError(
        f"Recordings, their pages and profiles need {package}, which is not installed here.",
        f"{sudo}{shlex.quote(sys.executable)} -m pip install {' '.join(_RECORDINGS.values())}",
    )


if __name__ == "__main__":
    main()
