"""Run a process group to its end, or end it: nothing of it is left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

Sink = Callable[[bytes], object]

# Kills the group when the pipe from this process closes, so also when this one is killed itself.
_LEASHED = """\
exec 3<&0 </dev/null
(read _; kill -KILL 0) <&3 >/dev/null 2>&1 &
exec "$@" 3<&-
"""
_TICK = 0.2
_CHUNK = 1 << 16


def supervise(
    argv: Sequence[str],
    environ: Mapping[str, str],
    timeout: float,
    stdout: Sink,
    stderr: Sink,
    tick: Callable[[], None],
) -> int:
    """Run argv in a session of its own, hand on what it writes, return its status.

    `tick` is called now and then. Its input is empty. The output streams are pipes whatever
    the caller's are: QEMU opens them anew and would truncate a file. Raises
    subprocess.TimeoutExpired; whatever is raised, all processes are gone.
    """
    deadline = time.monotonic() + timeout
    with (
        _signals_raise(),
        subprocess.Popen(
            ["sh", "-c", _LEASHED, "sh", *argv],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process,
    ):
        try:
            _pump(process, {"stdout": stdout, "stderr": stderr}, deadline, tick)
            return process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            _end_group(process)


def _pump(
    process: subprocess.Popen[bytes],
    sinks: Mapping[str, Sink],
    deadline: float,
    tick: Callable[[], None],
) -> None:
    with selectors.DefaultSelector() as selector:
        for name, sink in sinks.items():
            selector.register(getattr(process, name), selectors.EVENT_READ, sink)
        while selector.get_map():
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, 0)
            ready = selector.select(_TICK)
            tick()
            for key, _ in ready:
                if data := os.read(key.fd, _CHUNK):
                    key.data(data)
                else:
                    selector.unregister(key.fileobj)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill all processes of the group and wait for their end."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    while _running(process.pid):
        time.sleep(0.01)


def _running(group: int) -> bool:
    """Whether the group has a process that is more than a zombie.

    QEMU is a grandchild: who adopts it may reap it late or, in some containers, never.
    """
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = path.read_bytes().rpartition(b")")[2].split()[:3]
            if int(its_group) == group and state not in b"ZX":
                return True
    return False


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind the stack as Ctrl-C does. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _raise) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _raise(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
