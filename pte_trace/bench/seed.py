"""Run the benchmark program and read what it says; see seed.c for the protocol."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pte_trace.counted.counts import NOTHING, Counts, total
from pte_trace.counted.snapshot import Snapshot
from pte_trace.errors import HostError, PteTraceError
from pte_trace.session import Session

# With ERMS, glibc's memset is one instruction that repeats itself by the byte: where
# instructions are counted it would cost as many as there are bytes, which no machine takes.
_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS"}


@dataclass(frozen=True)
class Run:
    """Its result lines, and for each what a tracer counted in its phases."""

    soft_dirty: bool
    results: Sequence[Mapping[str, Any]]
    counts: Sequence[Mapping[str, Counts]]


def timed(program: Path, arguments: Iterable[object]) -> Run:
    """Run it undisturbed. Raises PteTraceError where it fails."""
    with _start(program, "timed", arguments) as process:
        first, *results = _messages(process)
    return Run(first["soft_dirty"], results, [])


def watched(program: Path, arguments: Iterable[object], session: Session) -> Run:
    """Run it traced by *session*, which is read at both edges of each phase."""
    with session.following():
        process = _start(program, "watched", arguments)
    with process:
        messages = _messages(process)
        first = next(messages)
        results, taken = [], []
        counts: dict[str, Counts] = defaultdict(lambda: NOTHING)
        for message in messages:
            if "edge" in message:
                snapshot = session.read()
                if message["edge"] == "end":
                    counts[message["phase"]] += _in_mapping(snapshot, first["start"])
                _go_on(process)
            else:
                results.append(message)
                taken.append(dict(counts))
                counts.clear()
    return Run(first["soft_dirty"], results, taken)


def _in_mapping(snapshot: Snapshot, start: int) -> Counts:
    """What was counted in the mapping that the program writes to: it has no neighbours."""
    return total(vma.counts for vma in snapshot.vmas if vma.start == start)


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _start(program: Path, mode: str, arguments: Iterable[object]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(
            [program, mode, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            text=True,
        )
    except OSError as error:
        raise HostError(
            f"The benchmark {program} cannot be executed: {error.strerror}.",
            "Set XDG_CACHE_HOME to a directory where programs may run.",
        ) from error


def _messages(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """The program's lines, to its end. Raises PteTraceError where it ends badly."""
    assert process.stdout is not None
    assert process.stderr is not None
    yield from map(json.loads, process.stdout)
    said = process.stderr.read().strip()
    status = process.wait()
    if status < 0:
        raise PteTraceError(
            f"The benchmark was ended by {signal.Signals(-status).name}.",
            "See `dmesg`: the kernel ends what takes too much memory.",
        )
    if status:
        raise PteTraceError(f"The benchmark failed: {said}.")
