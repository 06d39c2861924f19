"""A command that is given something hostile: how it ended, how long it took, and its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

MOST_MB, MOST_SECONDS = 192, 10
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """``peak_mb``: of the process and of each that it waited for, the most.

    Without what the process has mapped of files. Of the same libraries that is 40 MB or 75 MB, as
    they lie in the page cache. ``seconds``: without those that it waited for a CPU that others had.
    """

    status: int
    stdout: str
    stderr: str
    seconds: float
    peak_mb: float

    def check(self, *statuses: int) -> Ended:
        """Within the bounds, without a traceback; and with one of *statuses*, where some are given.

        Where it is not 0, what is on standard error is a sentence, and how to mend it.
        """
        assert "Traceback" not in self.stderr, self.stderr
        assert self.status in (statuses or (0, 1, 2, 3)), self
        if self.status:
            assert 1 <= len(self.stderr.splitlines()) <= 5, self.stderr
        assert self.seconds <= MOST_SECONDS, self
        assert self.peak_mb <= MOST_MB, self
        return self


# What is started has the most memory of who starts it as its own: that is to be a small one.
_MEASURE = """
import os, resource, subprocess, sys, time
process = subprocess.Popen(sys.argv[2:], pass_fds=())
mapped = waited = 0
while process.poll() is None:
    with open(f"/proc/{process.pid}/status") as status:
        mapped = next((int(line.split()[1]) for line in status if line[:8] == "RssFile:"), mapped)
    if os.path.exists("/proc/self/schedstat"):
        with open(f"/proc/{process.pid}/schedstat") as times:
            waited = int(times.read().split()[1])
    time.sleep(0.01)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss - mapped
os.write(int(sys.argv[1]), f"{process.returncode} {peak} {waited}".encode())
"""


def run(command: Sequence[str | Path], *, given_up_s: float = 60, **options: Any) -> Ended:
    """Run *command*, killed after so long; *options* are Popen's."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        receiver, sender = os.pipe()
        measured = [sys.executable, "-ISc", _MEASURE, str(sender), *command]
        began = time.monotonic()
        with subprocess.Popen(
            measured,
            **{"cwd": ROOT, **streams, **options},
            pass_fds=(sender,),
            start_new_session=True,
        ) as process:
            os.close(sender)
            killer = threading.Timer(given_up_s, os.killpg, (process.pid, signal.SIGKILL))
            killer.start()
            said = os.read(receiver, 100).split()
            os.close(receiver)
            process.wait()
            killer.cancel()
        status, peak, waited_ns = map(int, said) if said else (-signal.SIGKILL, 0, 0)
        seconds = time.monotonic() - began - waited_ns / 1e9
        return Ended(status, _read(out), _read(err), seconds, peak * 1024 / 1e6)


def _read(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "backslashreplace")


def pte_trace(*words: object, **options: Any) -> Ended:
    """`pte-trace` with these words."""
    return run([sys.executable, "-m", "pte_trace", *map(str, words)], **options)


def simulated(*words: object, env: Mapping[str, str] | None = None, **options: Any) -> Ended:
    """The same, with a simulated kernel."""
    return run(
        [sys.executable, "-m", "tests.simulated", *map(str, words)],
        env={**(os.environ if env is None else env), "PYTHONPATH": str(ROOT)},
        **options,
    )


def python(script: str, *words: object) -> Ended:
    return run([sys.executable, "-c", script, *map(str, words)])
