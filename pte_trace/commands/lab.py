"""`pte-trace lab`: run a command in a throw-away kernel."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TextIO

import click
from rich.filesize import decimal

from pte_trace.lab import Guest, cache, stream
from pte_trace.lab.fetch import Fetcher
from pte_trace.lab.kernels import DEBIAN, KERNELS, check_names
from pte_trace.lab.progress import Progress
from pte_trace.lab.supervise import Sink


@click.group()
def lab() -> None:
    """Run a command in a throw-away kernel, under QEMU.

    The guest sees this machine's file system and is root in it; what it writes is gone when
    it ends. KVM is used where a trial boot has proved it, else software emulation. Kernels
    are kept in $PTE_TRACE_LAB_CACHE, by default in pte-trace/lab of the user's cache.

    \b
    Examples:
      pte-trace lab list
      pte-trace lab run --kernel trixie -- pte-trace doctor
    """


@lab.command(name="list")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to write the list.",
)
def list_kernels(style: str) -> None:
    """Show the kernels that the lab knows, and which of them are fetched.

    JSON has for each kernel: name, release, state, what, bytes; release and bytes are null
    where it is not fetched.
    """
    directory = cache.directory()
    rows = []
    for name, what in KERNELS.items():
        kernel = cache.find(directory, name)
        rows.append(
            {
                "name": name,
                "release": kernel.release if kernel else None,
                "state": "fetched" if kernel else "not fetched",
                "what": what,
                "bytes": cache.size(kernel.root) if kernel else None,
            }
        )
    if style == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    line = "{:<10} {:<24} {:<12} {:>9}  {}"
    click.echo(line.format("NAME", "RELEASE", "STATE", "SIZE", "WHAT"))
    for row in rows:
        size = decimal(int(row["bytes"])) if row["bytes"] else "-"
        click.echo(line.format(row["name"], row["release"] or "-", row["state"], size, row["what"]))


@lab.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--mirror", metavar="URL", help="Fetch from this Debian archive.")
def fetch(names: tuple[str, ...], mirror: str | None) -> None:
    """Fetch Debian's newest kernel of each suite NAME, by default of all.

    They come from the Debian archive that apt is configured for, or from --mirror; apt's own
    sources and lists stay as they are. A newer kernel takes the place of the one fetched
    before; where there is none, nothing is downloaded.

    \b
    Examples:
      pte-trace lab fetch
      pte-trace lab fetch bookworm sid
    """
    check_names(names, DEBIAN)
    Fetcher(cache.directory(), Progress(), mirror).fetch(names or DEBIAN)


@lab.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--kernel",
    "name",
    metavar="NAME",
    default="bookworm",
    show_default=True,
    help="Which kernel; see `pte-trace lab list`.",
)
@click.option("--cpus", type=int, metavar="N", help="How many CPUs.  [default: 2]")
@click.option(
    "--memory", metavar="SIZE", default="4G", show_default=True, help="How much memory, as 512M."
)
@click.option(
    "--icount",
    is_flag=True,
    help="Count instructions: a nanosecond of the guest is one instruction, in every run the "
    "same. One CPU, no KVM.",
)
@click.option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    default=600,
    show_default=True,
    help="End a guest that takes longer.",
)
@click.option(
    "--rwdir",
    "rwdirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Let the guest change this directory; may be repeated.",
)
@click.option("--verbose", is_flag=True, help="Show the guest's console on standard error.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def run(
    ctx: click.Context,
    name: str,
    cpus: int | None,
    memory: str,
    icount: bool,
    timeout: float,
    rwdirs: tuple[Path, ...],
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Boot a kernel, run COMMAND in it as root, and exit with its status.

    COMMAND runs in this directory and finds the programs that are found here, this
    pte-trace first. Its standard input is empty; its output and errors pass through
    unchanged. A kernel that is missing is fetched first. Exit status 3 where the guest cannot
    be booted, dies or takes too long.

    \b
    Examples:
      pte-trace lab run -- uname -r
      pte-trace lab run --kernel sid -- pte-trace run -- ./program
      pte-trace lab run --icount --rwdir results -- sh -c './bench > results/bench.txt'
    """
    guest = Guest(cpus, memory, icount, timeout, rwdirs, verbose=verbose)
    ctx.exit(stream(name, command, guest, _sink(sys.stdout), _sink(sys.stderr), Progress()))


def _sink(stream_: TextIO) -> Sink:
    def write(data: bytes) -> None:
        stream_.buffer.write(data)
        stream_.flush()

    return write
