"""What bpftrace counts in a cgroup: the same events, by nothing of ours."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_WRITE, _RETRY, _ERROR = 0x1, 0x400, 0x873  # FAULT_FLAG_WRITE, VM_FAULT_RETRY, VM_FAULT_ERROR
_SHARED, _PRESENT, _UFFD_WP = 0x8, 0x1, 0x400  # VM_SHARED, _PAGE_PRESENT, _PAGE_UFFD_WP
_FRAME = 0x000FFFFFFFFFF000
# By what change_protection() is called with: MM_CP_PROT_NUMA, MM_CP_UFFD_WP, MM_CP_UFFD_WP_RESOLVE.
_CAUSES = {0: "mprotect", 2: "numa_hint", 4: "uffd_wp", 8: "uffd_unprotect"}
_OUTCOMES = ("other", "wp_reuse", "wp_copy", "wp_shared", "wp_uffd", "error")

# What do_wp_page() did tells the fault's outcome, also where the fault takes another attempt.
_PROGRAM = f"""
kretfunc:do_wp_page /cgroup == GROUP && args->vmf->flags & {_WRITE}/
{{
    $page = args->vmf->address >> 12;
    $before = args->vmf->orig_pte.pte;
    $after = args->vmf->pte->pte;
    if (@was[tid, $page] != {_OUTCOMES.index("wp_uffd")}) {{
        if (retval & {_RETRY} && $before & {_UFFD_WP}) {{
            @was[tid, $page] = {_OUTCOMES.index("wp_uffd")};
        }} else if (args->vmf->vma->vm_flags & {_SHARED}) {{
            @was[tid, $page] = {_OUTCOMES.index("wp_shared")};
        }} else if (retval & {_RETRY} || !($after & {_PRESENT})) {{
            @was[tid, $page] = 0;
        }} else if (($before & {_FRAME}) == ($after & {_FRAME})) {{
            @was[tid, $page] = {_OUTCOMES.index("wp_reuse")};
        }} else {{
            @was[tid, $page] = {_OUTCOMES.index("wp_copy")};
        }}
    }}
}}
kretfunc:handle_mm_fault /cgroup == GROUP && args->flags & {_WRITE} && !(retval & {_RETRY})/
{{
    $page = args->address >> 12;
    $outcome = @was[tid, $page];
    if (retval & {_ERROR}) {{ $outcome = {_OUTCOMES.index("error")}; }}
    @faults[$outcome] = count();
    delete(@was[tid, $page]);
}}
kretfunc:change_protection /cgroup == GROUP && (int64)retval >= 0/
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
            (name, int(key)): int(value)
            for name, key, value in re.findall(r"^@(\w+)\[(\d+)\]: (\d+)$", said, re.M)
        }
        names = {"faults": dict(enumerate(_OUTCOMES)), "changes": _CAUSES, "ptes": _CAUSES}
        return {
            f"{name}.{said}": maps.get((name, key), 0)
            for name, by in names.items()
            for key, said in by.items()
        }


@contextmanager
def judge(group: Path) -> Iterator[Judge]:
    """One that counts what happens in the cgroup from now on."""
    program = _PROGRAM.replace("GROUP", str(group.stat().st_ino))
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
