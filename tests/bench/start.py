"""What it takes to begin tracing, and what stays resident, beside what else one would use.

    make bench-start

Boots a kernel in a guest that counts instructions. There pte-trace, a BCC tool as they are
usually written (it includes the kernel's headers) and a bpftrace script attach to the same
functions, and then each starts a command that looks at what its parent took until then. Each is
started twice, and the second time counts. `pte-trace serve` is looked at after its first scrape.
Prints a table and writes the figures to docs/overhead/start.json.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from tests.bench import guest

_RECORDED = Path(__file__).parents[2] / "docs/overhead/start.json"
_TIMEOUT = 1800.0
_BPFTRACE = """
kretfunc:change_protection { @changed[pid, args->vma->vm_start] = sum(retval); }
kretfunc:do_wp_page { @wp[pid, args->vmf->vma->vm_start] = count(); }
kretfunc:handle_mm_fault { @fault[pid, args->vma->vm_start] = count(); }
"""
_TOOL = r'''
import subprocess, sys
from bcc import BPF

TEXT = """
#include <linux/mm.h>

struct place { u32 pid; u64 start; };
BPF_HASH(changed, struct place);
BPF_HASH(wp, struct place);
BPF_HASH(faults, struct place);

static struct place place_of(struct vm_area_struct *vma)
{
    struct place place = {};

    place.pid = bpf_get_current_pid_tgid() >> 32;
    place.start = vma->vm_start;
    return place;
}

KRETFUNC_PROBE(change_protection, void *tlb, struct vm_area_struct *vma, unsigned long start,
               unsigned long end, unsigned long newprot, unsigned long cp_flags, long result)
{
    struct place place = place_of(vma);
    changed.increment(place, result);
    return 0;
}

KRETFUNC_PROBE(do_wp_page, struct vm_fault *vmf, int result)
{
    struct place place = place_of(vmf->vma);
    wp.increment(place);
    return 0;
}

KRETFUNC_PROBE(handle_mm_fault, struct vm_area_struct *vma, unsigned long address,
               unsigned int flags, struct pt_regs *regs, int result)
{
    struct place place = place_of(vma);
    faults.increment(place);
    return 0;
}
"""
bpf = BPF(text=TEXT)
subprocess.run(sys.argv[1:], check=True)
'''
# Of the parent: /proc/PID/stat and status (proc_pid_stat(5), proc_pid_status(5)).
_LOOK = "cat /proc/$PPID/stat; grep VmRSS /proc/$PPID/status"
_USER_TIME, _TIMES = 13, 4  # as in the page, from 0: utime, stime, cutime, cstime


def _tools(script: str) -> dict[str, tuple[str, ...]]:
    """Each starts the shell *script* once it has attached."""
    return {
        "pte-trace": (sys.executable, "-m", "pte_trace", "run", "--", "sh", script),
        "BCC tool": (sys.executable, "-c", _TOOL, "sh", script),
        "bpftrace": ("bpftrace", "-e", _BPFTRACE, "-c", f"/bin/sh {script}"),
    }


def _taken(command: Sequence[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (taken := _account(done.stdout)):
        sys.exit(f"{command[0]} did not attach: {done.stdout}{done.stderr}")
    return taken


def _served() -> dict[str, float]:
    """What `serve` took until it was scraped once."""
    with guest.serving() as pid:
        guest.scrape()
        proc = Path("/proc", str(pid))
        return _account((proc / "stat").read_text() + (proc / "status").read_text())


def _account(text: str) -> dict[str, float]:
    """What a process took, from what /proc says of it; nothing where it is not there."""
    stat = re.search(r"^\d+ \(.*\) [A-Z] .*$", text, re.MULTILINE)
    resident = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.MULTILINE)
    if stat is None or resident is None:
        return {}
    after_comm = stat[0].rpartition(")")[2].split()
    ticks = after_comm[_USER_TIME - 2 : _USER_TIME - 2 + _TIMES]
    seconds = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return {"instructions": seconds * 1e9, "resident_bytes": int(resident[1]) * 1024}


def _link_headers() -> None:
    """As Debian's linux-headers has them: the guest's own modules are in their place."""
    release = os.uname().release
    modules = Path("/lib/modules") / release
    for name, suffix in (("build", release), ("source", release.replace("-amd64", "-common"))):
        (modules / name).symlink_to(f"/usr/src/linux-headers-{suffix}")


def measure() -> dict[str, Any]:
    """In the guest: by tool, what it took until it had attached, and what was resident then."""
    _link_headers()
    found = {}
    with tempfile.NamedTemporaryFile("w") as script:
        script.write(_LOOK)
        script.flush()
        for name, command in _tools(script.name).items():
            _taken(command)
            found[name] = _taken(command)
    _served()
    found["pte-trace serve"] = _served()
    return {"release": os.uname().release, "tools": found}


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"From exec to attached, Linux {found['release']}", box=None)
    for heading in ("", "INSTRUCTIONS, 10^6", "OF THE TOOL'S", "RESIDENT, MB", "OF THE TOOL'S"):
        table.add_column(heading, justify="right" if heading else "left")
    whole = found["tools"]["BCC tool"]
    for name, took in found["tools"].items():
        cells = []
        for figure in ("instructions", "resident_bytes"):
            cells += [f"{took[figure] / 1e6:,.0f}", f"{took[figure] / whole[figure]:.2f}"]
        table.add_row(name, *cells)
    return table


def main(kernel: str) -> None:
    found = guest.measured("tests.bench.start", kernel, _TIMEOUT)
    guest.record(found, _table(found), _RECORDED)


if __name__ == "__main__":
    guest.program(measure, main)
