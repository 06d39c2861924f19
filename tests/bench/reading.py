"""What reading the kernel's tables takes, in instructions, beside BCC's own way.

    make bench

Boots a kernel in a guest that counts instructions, in which one program has MAPPINGS mappings
whose protection it changed. Their records are read as we do: the tables alone, then all that makes
a snapshot of them; and once more when nothing has happened since. Before, as many are read from
a hash as any BCC program would, with items(). At last `serve` is looked at while they sleep. Prints
a table and writes the figures to docs/overhead/reading.json.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from pte_trace.counted.packed import LAYOUT
from pte_trace.exporter.reader import INTERVAL_S
from pte_trace.filters import Filters
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from tests.bench import guest

MAPPINGS = 12_000
SECONDS = 10
_RECORDED = Path(__file__).parents[2] / "docs/overhead/reading.json"
_TIMEOUT = 900.0
# Every second page becomes a mapping of its own.
_PROGRAM = f"""
import ctypes, mmap
libc, size = ctypes.CDLL(None), mmap.PAGESIZE
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_size_t, (ctypes.c_size_t,) * 6
libc.mprotect.argtypes = ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int
anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
start = libc.mmap(0, 2 * {MAPPINGS} * size, mmap.PROT_READ, anonymous, 2**64 - 1, 0)
for page in range(0, 2 * {MAPPINGS}, 2):
    assert libc.mprotect(start + page * size, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0
"""
# Each of them is made read-only and writable again: one change leaves some of them as they were.
_TOGGLE = f"""
    for page in range(0, 2 * {MAPPINGS}, 2):
        libc.mprotect(start + page * size, size, mmap.PROT_READ)
    for page in range(0, 2 * {MAPPINGS}, 2):
        libc.mprotect(start + page * size, size, mmap.PROT_READ | mmap.PROT_WRITE)
"""


def _took(what: Callable[[], object]) -> int:
    """Nanoseconds of CPU, which are instructions in such a guest."""
    begun = time.process_time_ns()
    what()
    return time.process_time_ns() - begun


def _run(session: Session) -> None:
    with session.following():
        subprocess.run([sys.executable, "-c", _PROGRAM], check=True)


def _hash() -> Any:
    """A table of BCC's with MAPPINGS keys and values as large as ours, as arrays of numbers."""
    sizes = (LAYOUT.ffi.sizeof(f"struct vma_{each}") // 8 for each in ("key", "record"))
    key, value = (f"struct {{ u64 numbers[{size}]; }}" for size in sizes)
    text = f"typedef {key} key_type; typedef {value} value_type;"
    text += f'BPF_TABLE("hash", key_type, value_type, table, {2 * MAPPINGS});'
    table = guest.bcc_program(text)[b"table"]
    for each in range(MAPPINGS):
        made = table.Key()
        made.numbers[0] = each
        table[made] = table.Leaf()
    return table


def measure() -> dict[str, int]:
    """In the guest: instructions by way of reading."""
    found = {"BPF[table].items()": _took(_hash().items)}
    with Session(Filters(children=True), capacity=Capacity(records=2 * MAPPINGS)) as session:
        session.start()
        _run(session)
        found["the tables"] = _took(lambda: _lent(session))
        _run(session)
        found["a snapshot"] = _took(session.read)
        found["a snapshot of nothing new"] = _took(session.read)
        _run(session)
        assert len(session.read().vmas) >= MAPPINGS
    return found | _asleep() | _busy()


def _lent(session: Session) -> None:
    with session.driver.reading():
        pass


def _asleep() -> dict[str, int]:
    """What `serve` takes each second while all mappings are there and nothing happens."""
    with guest.serving() as pid:
        command = [sys.executable, "-c", f"{_PROGRAM}\nprint(flush=True)\ninput()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(2):
                time.sleep(1)
                guest.scrape()
            times = [_ran(pid)]
            time.sleep(SECONDS)
            times.append(_ran(pid))
            for _ in range(SECONDS):
                time.sleep(1)
                guest.scrape()
            times.append(_ran(pid))
            process.communicate(b"\n")
    alone, scraped = (later - before for before, later in pairwise(times))
    return {
        "`serve`, each second": alone // SECONDS,
        "`serve`, scraped each second": scraped // SECONDS,
    }


def _busy() -> dict[str, int]:
    """What a reading of `serve` takes in which all mappings have events; the second one."""
    again = f"{_PROGRAM}\nwhile input('ready\\n'):" + _TOGGLE
    with guest.serving() as pid:
        command = [sys.executable, "-u", "-c", again]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(2):
                process.stdout.readline()
                begun = _ran(pid)
                process.stdin.write(b"go\n")
                process.stdin.flush()
                time.sleep(2 * INTERVAL_S)
                took = _ran(pid) - begun
            process.communicate(b"\n")
    return {"a reading of `serve`, each mapping": took // MAPPINGS}


def _ran(pid: int) -> int:
    """Nanoseconds that all threads of a process ran: each one's /proc/PID/task/TID/schedstat."""
    threads = Path("/proc", str(pid), "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


def _shown(found: dict[str, int]) -> Table:
    table = Table(title=f"Instructions to read {MAPPINGS:,} records", box=None)
    for heading in ("READ", "MILLIONS", "OF items()"):
        table.add_column(heading, justify="left" if heading == "READ" else "right")
    whole = next(iter(found.values()))
    for name, took in found.items():
        table.add_row(escape(name), f"{took / 1e6:,.1f}", f"{took / whole:.3f}")
    return table


def main(kernel: str) -> None:
    found = guest.measured("tests.bench.reading", kernel, _TIMEOUT)
    guest.record(found, _shown(found), _RECORDED)


if __name__ == "__main__":
    guest.program(measure, main)
