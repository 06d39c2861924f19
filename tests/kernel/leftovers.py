"""What somebody has in the kernel, and what was written to files in this guest."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

_SYS_BPF = 321
_NEXT_ID = {"program": 11, "map": 12, "link": 31}
_TRACING = Path("/sys/kernel/tracing")
# The last has those of perf_event_open(2) too, which have no name in the others.
_PROBES = (
    _TRACING / "kprobe_events",
    _TRACING / "uprobe_events",
    Path("/sys/kernel/debug/kprobes/list"),
)
_HOOKED = _TRACING / "enabled_functions"
_SHARED_MEMORY = Path("/dev/shm")
# Where virtme-ng has what was written over this machine's files: /tmp and the caches among them.
_WRITTEN = Path("/run/tmp")
# What Python and its tests write, and what pte-trace keeps.
_TO_STAY = re.compile(
    r"/__pycache__(/|$)|/pytest-of-|/\.cache(/pte-trace(/(programs|types)(/[0-9a-f]{64}\.json)?)?)?$"
)
_PATIENCE_S = 60.0

_libc = ctypes.CDLL(None, use_errno=True)
Things = Mapping[str, frozenset[str]]


def now() -> Things:
    """BPF objects by id, probes by line, hooked functions by name, files by path."""
    hooked = _HOOKED.read_text().splitlines()
    return {
        **{kind: _ids(command) for kind, command in _NEXT_ID.items()},
        **{str(path): frozenset(path.read_text().splitlines()) for path in _PROBES},
        "hooked": frozenset(line.split()[0] for line in hooked if line[0].isalpha()),
        "files": frozenset(each for each in map(str, _files()) if not _TO_STAY.search(each)),
    }


def _files() -> Iterator[Path]:
    """Files and directories, but for those of this machine that got bytecode, or their parts."""
    for top in (_SHARED_MEMORY, *_WRITTEN.glob("*/upper")):
        compiled = {above for each in top.rglob("__pycache__") for above in each.parents}
        yield from (each for each in top.rglob("*") if each not in compiled)


def since(before: Things) -> dict[str, frozenset[str]]:
    """What is there and was not *before*, once the kernel has had time to take it away."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        found = {kind: things - before[kind] for kind, things in now().items()}
        left = {kind: things for kind, things in found.items() if things}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _ids(command: int) -> frozenset[str]:
    """All ids of a kind: BPF_PROG_GET_NEXT_ID and its like."""
    found = set()
    attributes = ctypes.create_string_buffer(16)
    while _libc.syscall(_SYS_BPF, command, attributes, len(attributes)) == 0:
        _, following, _, _ = struct.unpack("=4I", attributes.raw)
        found.add(str(following))
        struct.pack_into("=4I", attributes, 0, following, 0, 0, 0)
    if ctypes.get_errno() != errno.ENOENT:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return frozenset(found)
