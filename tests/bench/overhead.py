"""What tracing adds to a fault and to a change of protection, in instructions.

    make bench-overhead [KERNEL=unpatched]

Boots the kernel in a guest that counts instructions, and runs build/workloads/costs in it as it
is, with everything traced, with less, beside a bpftrace script that counts on the same functions,
and beside programs that do nothing. Prints a table and writes the figures to
docs/overhead/KERNEL.json; `python docs/overhead.py` makes a page of those.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.table import Table

from pte_trace.effort import EVERYTHING, Effort
from pte_trace.filters import Filters
from pte_trace.session import Session
from tests.bench import guest

PAGES = 4096
_CHECKOUT = Path(__file__).parents[2]
_PROGRAM = _CHECKOUT / "build/workloads/costs"
_RECORDED = _CHECKOUT / "docs/overhead"
_SCRIPT = """
kfunc:do_wp_page { @wp[pid, args->vmf->vma->vm_start] = count(); }
kfunc:handle_mm_fault { @fault[pid, args->vma->vm_start] = count(); }
"""
# What nothing that is attached where we are can be below.
_EMPTY = "KFUNC_PROBE(handle_mm_fault) { return 0; }"
_EMPTIES = f"""
{_EMPTY}
KRETFUNC_PROBE(handle_mm_fault) {{ return 0; }}
KRETFUNC_PROBE(do_wp_page) {{ return 0; }}
KRETFUNC_PROBE(change_protection) {{ return 0; }}
"""
_WITHOUT = "untraced"
_TIMEOUT = 1800.0
# What is measured, from what the program prints for so many pages, per page.
_KINDS: dict[str, tuple[int, Callable[[dict[str, int]], int]]] = {
    "rewrite after a toggle": (PAGES, lambda took: took["rewrite"] - took["again"]),
    "first touch": (PAGES, lambda took: took["first_touch"]),
    "read fault": (PAGES, lambda took: took["read"]),
    "mprotect(PROT_READ)": (PAGES, lambda took: took["read_only"]),
    "mprotect(PROT_READ | PROT_WRITE)": (PAGES, lambda took: took["writable"]),
    "mprotect(PROT_READ) of one page": (1, lambda took: took["read_only"]),
    "mprotect(PROT_READ | PROT_WRITE) of one page": (1, lambda took: took["writable"]),
}


@contextmanager
def _traced(effort: Effort, filters: Filters | None = None) -> Iterator[Session]:
    with Session(filters or Filters(), effort=effort) as session:
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
def _attached(text: str) -> Iterator[None]:
    bpf = guest.bcc_program(text)
    try:
        yield
    finally:
        bpf.cleanup()


def _ways() -> dict[str, AbstractContextManager[object]]:
    return {
        _WITHOUT: nullcontext(),
        "everything": _traced(EVERYTHING),
        "--costs none": _traced(Effort(costs=0)),
        "--inspect none": _traced(Effort(inspect=0)),
        "neither": _traced(Effort(inspect=0, costs=0)),
        "not selected": _traced(EVERYTHING, Filters(comm="nothing")),
        "bpftrace": _bpftrace(),
        "one empty fentry": _attached(_EMPTY),
        "empty programs": _attached(_EMPTIES),
    }


def measure() -> dict[str, Any]:
    """In the guest: instructions for each kind of event, by way of watching."""
    found: dict[str, Any] = {"release": os.uname().release, "ways": {}, "programs": {}}
    for name, way in _ways().items():
        with way as session:
            took = {pages: _took(pages) for pages in {pages for pages, _ in _KINDS.values()}}
            if name == "everything" and isinstance(session, Session):
                found["programs"] = {
                    name: account.verified_instructions
                    for name, account in session.driver.programs().items()
                }
        found["ways"][name] = {
            kind: of(took[pages]) / pages for kind, (pages, of) in _KINDS.items()
        }
    return found


def _took(pages: int) -> dict[str, int]:
    done = subprocess.run([_PROGRAM, str(pages)], stdout=subprocess.PIPE, text=True, check=True)
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
