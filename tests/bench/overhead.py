"""What tracing adds to a fault and to a change of protection, in instructions.

    make bench-overhead

Boots a kernel in a guest that counts instructions, and runs build/workloads/costs in it as it is,
traced as the commands trace, with less, beside a bpftrace script that counts on the same
functions, and beside programs that do nothing. Prints a table and writes the figures to
docs/overhead/KERNEL.json; `python docs/overhead.py` makes a page of those.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.table import Table

from pte_trace.effort import EVERYTHING, Effort
from pte_trace.filters import Filters
from pte_trace.kernel import remembered, syscalls
from pte_trace.kernel.btf import BTF
from pte_trace.session import Session
from tests.bench import guest
from tests.kernel import tables

PAGES, HUGE_PAGES = 1024, 7
_CHECKOUT = Path(__file__).parents[2]
_PROGRAM = _CHECKOUT / "build/workloads/costs"
_RECORDED = _CHECKOUT / "docs/overhead"
_SCRIPT = """
kfunc:do_wp_page { @wp[pid, args->vmf->vma->vm_start] = count(); }
kfunc:handle_mm_fault { @fault[pid, args->vma->vm_start] = count(); }
"""
# What nothing that is attached where we are can be below.
_RETURN_ZERO = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)
_WITHOUT = "untraced"
# The ways that users take: `run` and `serve` without options.
_BY_DEFAULT = ("everything", "whole machine")
_TIMEOUT = 1800.0
# What is measured, from what the program prints for so many pages, per page.
_SMALL, _ONE, _HUGE = (PAGES,), (1,), (HUGE_PAGES, "huge")
_KINDS: dict[str, tuple[tuple[Any, ...], Callable[[dict[str, int]], int]]] = {
    "write-protect fault": (_SMALL, lambda took: took["reuse"] - took["again"]),
    "rewrite after a toggle": (_SMALL, lambda took: took["rewrite"] - took["again"]),
    "first touch": (_SMALL, lambda took: took["first_touch"]),
    "read fault": (_SMALL, lambda took: took["read"]),
    "mprotect(PROT_READ)": (_SMALL, lambda took: took["read_only"]),
    "mprotect(PROT_READ | PROT_WRITE)": (_SMALL, lambda took: took["writable"]),
    "mprotect(PROT_READ) of one page": (_ONE, lambda took: took["read_only"]),
    "mprotect(PROT_READ | PROT_WRITE) of one page": (_ONE, lambda took: took["writable"]),
    "write-protect fault of a huge page": (_HUGE, lambda took: took["reuse"] - took["again"]),
    "mprotect(PROT_READ) of huge pages": (_HUGE, lambda took: took["read_only"]),
    "mprotect(PROT_READ | PROT_WRITE) of huge pages": (_HUGE, lambda took: took["writable"]),
}


@contextmanager
def _as_run(effort: Effort = EVERYTHING, comm: str | None = None) -> Iterator[Session]:
    """As `pte-trace run`: what is started meanwhile is traced."""
    filters = Filters(children=True, comm=comm)
    with Session(filters, effort=effort) as session:
        session.start()
        with session.following():
            yield session


@contextmanager
def _machine() -> Iterator[Session]:
    """As `pte-trace serve` and `pte-trace top` without filters."""
    with Session(Filters()) as session:
        session.start()
        yield session


@contextmanager
def _bpftrace() -> Iterator[None]:
    command = ["bpftrace", "-e", _SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as script:
        assert script.stdout is not None
        script.stdout.readline()
        time.sleep(1)
        try:
            yield
        finally:
            script.terminate()


@contextmanager
def _empties(programs: Iterable[str]) -> Iterator[None]:
    """Programs that do nothing in the place of *programs* (KIND/FUNCTION), but tracepoints'."""
    btf = remembered.of_running_kernel()
    with ExitStack() as opened:
        for kind, function in (name.split("/") for name in programs):
            if kind != "raw_tracepoint":
                for fd in _attached(kind, function, btf):
                    opened.callback(os.close, fd)
        yield


def _attached(kind: str, function: str, btf: BTF) -> tuple[int, int]:
    tracing = {"fentry": syscalls.TRACE_FENTRY, "fexit": syscalls.TRACE_FEXIT}
    if kind in tracing:
        program = syscalls.load(
            syscalls.PROG_TYPE_TRACING,
            _RETURN_ZERO,
            attach_type=tracing[kind],
            function_id=btf.function_id(function) or 0,
        )
        return syscalls.attach_raw_tracepoint(program), program
    attach_type = syscalls.TRACE_SESSION if kind == "session" else 0
    program = syscalls.load(syscalls.PROG_TYPE_KPROBE, _RETURN_ZERO, attach_type=attach_type)
    if kind == "session":
        return syscalls.attach_session(program, function), program
    return syscalls.attach_kprobe(program, function, at_return=kind == "kretprobe"), program


def _ways() -> dict[str, AbstractContextManager[object]]:
    return {
        _WITHOUT: nullcontext(),
        "everything": _as_run(),
        "--costs none": _as_run(Effort(costs=0)),
        "not selected": _as_run(comm="nothing"),
        "whole machine": _machine(),
        "bpftrace": _bpftrace(),
    }


def measure() -> dict[str, Any]:
    """In the guest: instructions for each kind of event, by way of watching."""
    found: dict[str, Any] = {
        "release": os.uname().release,
        "pages": PAGES,
        "ways": {},
        "programs": {},
        "memory": {},
    }
    for name, way in _ways().items():
        with way as session:
            found["ways"][name] = _took()
            if name in _BY_DEFAULT:
                found["memory"][name] = _memory()
            if name == "everything" and isinstance(session, Session):
                found["programs"] = {
                    name: account.verified_instructions
                    for name, account in session.driver.programs().items()
                }
    with _empties(found["programs"]):
        found["ways"]["empty programs"] = _took()
    return found


def _took() -> dict[str, float]:
    """Per page."""
    took = {asked: _run(*asked) for asked in dict.fromkeys(asked for asked, _ in _KINDS.values())}
    return {kind: of(took[asked]) / asked[0] for kind, (asked, of) in _KINDS.items()}


def _memory() -> dict[str, int]:
    """Bytes that the tables of this process take of the kernel's memory.

    Those of tables that each CPU has one of are told apart; such a guest has one CPU.
    """
    taken = {"for each CPU": 0, "once": 0}
    for table in tables.memory().values():
        taken["for each CPU" if table.per_cpu else "once"] += table.bytes
    return taken


def _run(*asked: object) -> dict[str, int]:
    done = subprocess.run(
        [_PROGRAM, *map(str, asked)], stdout=subprocess.PIPE, text=True, check=True
    )
    took: dict[str, int] = json.loads(done.stdout)
    return took


def _table(found: dict[str, Any]) -> Table:
    table = Table(title=f"Instructions per page, Linux {found['release']}", box=None)
    for heading in ("", *found["ways"]):
        table.add_column(heading, justify="right" if heading else "left")
    base = found["ways"][_WITHOUT]
    for kind in _KINDS:
        added = (
            f"{way[kind]:,.1f}" if name == _WITHOUT else f"+{way[kind] - base[kind]:,.1f}"
            for name, way in found["ways"].items()
        )
        table.add_row(kind, *added)
    return table


def main(kernel: str) -> None:
    if shutil.which("bpftrace") is None:
        sys.exit("bpftrace is what tracing is compared with: sudo apt install bpftrace")
    found = guest.measured("tests.bench.overhead", kernel, _TIMEOUT)
    guest.record(found, _table(found), _RECORDED / f"{kernel}.json")


if __name__ == "__main__":
    guest.program(measure, main)
