"""What bpftrace counts in a cgroup: the same events, by nothing of ours."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_WRITE, _RETRY, _ERROR = 0x1, 0x400, 0x873  # FAULT_FLAG_WRITE, VM_FAULT_RETRY, VM_FAULT_ERROR
# By what change_protection() is called with: MM_CP_PROT_NUMA, MM_CP_UFFD_WP, MM_CP_UFFD_WP_RESOLVE.
_CAUSES = {0: "mprotect", 2: "numa_hint", 4: "uffd_wp", 8: "uffd_unprotect"}

_PROGRAM = """
kretfunc:handle_mm_fault /cgroup == {group} && args->flags & {write} && !(retval & {retry})/
{{ @faults = count(); if (retval & {error}) {{ @errors = count(); }} }}
kretfunc:change_protection /cgroup == {group} && (int64)retval >= 0/
{{ @changes[args->cp_flags & 14] = count(); @ptes[args->cp_flags & 14] = sum(retval); }}
interval:s:1 /!@ready/ {{ @ready = 1; printf("ready\\n"); }}
"""


class Judge:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def counted(self) -> Mapping[str, int]:
        """All that was counted, by the names that `totals` gives the same; it counts no more."""
        self._process.send_signal(signal.SIGINT)
        said, _ = self._process.communicate()
        maps = {
            (name, key): int(value)
            for name, key, value in re.findall(r"^@(\w+)(?:\[(\d+)\])?: (\d+)$", said, re.M)
        }
        found = {name: maps.get((name, ""), 0) for name in ("faults", "errors")}
        for flags, cause in _CAUSES.items():
            found[f"changes.{cause}"] = maps.get(("changes", str(flags)), 0)
            found[f"ptes.{cause}"] = maps.get(("ptes", str(flags)), 0)
        return found


@contextmanager
def judge(group: Path) -> Iterator[Judge]:
    """One that counts what happens in the cgroup from now on."""
    program = _PROGRAM.format(group=group.stat().st_ino, write=_WRITE, retry=_RETRY, error=_ERROR)
    with subprocess.Popen(
        ["bpftrace", "-e", program], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline() != "ready\n":
                assert process.poll() is None
            yield Judge(process)
        finally:
            process.kill()
