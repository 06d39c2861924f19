"""`pte-trace bench`: what a write costs on this kernel, and the faults that explain it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import click

from pte_trace.bench import Bench
from pte_trace.bench.results import PAGE
from pte_trace.commands import options
from pte_trace.effort import Effort
from pte_trace.errors import UsageError
from pte_trace.filters import Filters
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from pte_trace.views import bench as view
from pte_trace.views import write

_ITERATIONS, _LOOPS = 1000, 40
_CHILDREN = Filters(children=True)
# One small program: tables that are emptied at each edge of each write should be no larger.
_FEW = Capacity(records=256)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Whole pages, as 1G."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]{1,12})([KMG]?)", value, re.IGNORECASE)
    size = int(found[1]) * _UNITS[found[2].upper()] if found else 0
    if size <= 0 or size % PAGE:
        raise click.BadParameter(
            f"{value} is not a number of {PAGE}-byte pages, as 64K or 1G.", context, parameter
        )
    return size


@click.command()
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"Write so many times.  [default: {_ITERATIONS}]",
)
@click.option(
    "--size", callback=_size, metavar="SIZE", help="Toggle and rewrite SIZE of memory, as 1G."
)
@click.option(
    "--loops",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"With --size: so many times.  [default: {_LOOPS}]",
)
@click.option("--no-trace", is_flag=True, help="Only the times; needs no root.")
@options.output_options()
def bench(
    iterations: int | None,
    size: int | None,
    loops: int | None,
    no_trace: bool,
    style: str,
    path: Path | None,
) -> None:
    """Measure what a write costs on this kernel, and count the faults that explain it.

    \b
    The benchmarks that the optimization was posted with. Without --size: fresh memory of
    4, 16, 64 and 512 KiB is written to, whole (memset) or a byte per page,
      first              for the first time
      second             again
      after mprotect     after mprotect(PROT_READ) and mprotect(PROT_READ | PROT_WRITE)
      after soft-dirty   after clearing soft-dirty bits, where the kernel has them
    and the third of these is compared with the second and the fourth. With --size: SIZE of
    memory is made read-only, writable again and rewritten, --loops times over.

    Times are of an untraced run, faults of a traced one. An iteration that the kernel
    interrupted is repeated. Under `pte-trace lab run --icount` a nanosecond is one
    instruction. The program is compiled when it is first used, which takes a C compiler.

    \b
    Examples:
      sudo pte-trace bench
      sudo pte-trace bench --size 1G --loops 40
      pte-trace bench --no-trace --format csv -o times.csv
      pte-trace lab run --icount --kernel bullseye -- pte-trace bench
    """
    if size is None and loops is not None:
        raise UsageError("--loops is of the benchmark with --size.", "Give --size 1G, for example.")
    if size is not None and iterations is not None:
        raise UsageError("--iterations is of the benchmark without --size.", "Give --loops.")
    if size is not None and size > (free := _free_memory()):
        raise UsageError(
            f"{view.size(size)} is more than the {free >> 20:,} MiB of memory that are free.",
            "Give a smaller --size.",
        )
    session = None if no_trace else _session()
    with options.output(path, sys.stdout) as stream:
        place = Bench(session, write.working)
        if size is None:
            view.write(place.micro(iterations or _ITERATIONS), style, stream)
        else:
            view.write(place.macro(size, loops or _LOOPS), style, stream)


def _session() -> Session:
    """Write faults are all that is asked of it."""
    return Session(
        _CHILDREN, effort=Effort(inspect=0, costs=0), capacity=_FEW, working=write.working
    )


def _free_memory() -> int:
    """Bytes that can be had without swapping (proc(5), MemAvailable)."""
    found = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else os.sysconf("SC_PHYS_PAGES") * PAGE
