"""`pte-trace lab`: run a command in a throw-away kernel."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TextIO

import click
from rich.filesize import decimal

from pte_trace.lab import Guest, cache, ready, stream
from pte_trace.lab.build import Builder, all_cpus
from pte_trace.lab.fetch import Fetcher
from pte_trace.lab.kernels import BUILT, DEBIAN, FURTHER, KERNELS, check_names
from pte_trace.lab.progress import Progress
from pte_trace.lab.series import series
from pte_trace.lab.supervise import Sink


def _ports(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[int, int], ...]:
    """HERE:THERE, as two numbers."""
    pairs = []
    for value in given:
        found = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})", value)
        if not found:
            raise click.BadParameter(f"{value} is not a pair of ports.", ctx, parameter)
        pairs.append((int(found[1]), int(found[2])))
    return tuple(pairs)


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
    """Show the kernels that the lab knows, and which of them are fetched or built.

    JSON has for each kernel: name, release, state, what, bytes; release and bytes are null
    where it is neither fetched nor built.
    """
    directory = cache.directory()
    rows = []
    for name, what in KERNELS.items():
        kernel = cache.find(directory, name)
        state = "built" if name in BUILT else "fetched"
        rows.append(
            {
                "name": name,
                "release": kernel.release if kernel else None,
                "state": state if kernel else f"not {state}",
                "what": what,
                "bytes": cache.size(kernel.root) if kernel else None,
            }
        )
    if style == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    line = "{:<14} {:<24} {:<12} {:>9}  {}"
    click.echo(line.format("NAME", "RELEASE", "STATE", "SIZE", "WHAT"))
    for row in rows:
        size = decimal(int(row["bytes"])) if row["bytes"] else "-"
        click.echo(line.format(row["name"], row["release"] or "-", row["state"], size, row["what"]))


@lab.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--mirror", metavar="URL", help="Fetch from this Debian archive.")
def fetch(names: tuple[str, ...], mirror: str | None) -> None:
    """Fetch Debian's newest kernel of each suite NAME, by default of the four usual ones.

    They come from the Debian archive that apt is configured for, or from --mirror; apt's own
    sources and lists stay as they are. A newer kernel takes the place of the one fetched
    before; where there is none, nothing is downloaded.

    \b
    Examples:
      pte-trace lab fetch
      pte-trace lab fetch bookworm sid
      pte-trace lab fetch trixie-rt experimental
    """
    check_names(names, {**DEBIAN, **FURTHER})
    Fetcher(cache.directory(), Progress(), mirror).fetch(names or DEBIAN)


@lab.command()
@click.argument("name", metavar="[SERIES]", default="6.1")
@click.option("--jobs", type=int, metavar="N", help="Compile N files at once.  [default: CPUs]")
@click.option("--mirror", metavar="URL", help="Get the source from this Debian archive.")
def build(name: str, jobs: int | None, mirror: str | None) -> None:
    """Build two kernels that differ in the mprotect optimization and their names only.

    SERIES is 6.1 (the default), which makes `patched` and `unpatched`, or 6.12, which makes
    `patched-6.12` and `unpatched-6.12`. Both of a pair come from one linux-source package of
    Debian, one configuration and one compiler, and in both change_pte_range is a symbol. The
    unpatched one differs in one statement of mprotect_fixup(): it asks for writable PTEs in
    shared mappings only, as kernels before the optimization did. Each build checks that
    change_pte_range() and change_protection() came out the same.

    This takes about a quarter of an hour on two CPUs and 5 GB of disk, most of which is free
    again afterwards. When there is no newer source and nothing else that goes into the
    kernels has changed, nothing is built.

    \b
    Examples:
      pte-trace lab build
      pte-trace lab build 6.12 --jobs 8
      pte-trace lab run --kernel unpatched -- pte-trace run -- ./program
    """
    builder = Builder(cache.directory(), Progress(), all_cpus() if jobs is None else jobs, mirror)
    builder.build(series(name))


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
@click.option(
    "--forward",
    "forwards",
    callback=_ports,
    multiple=True,
    metavar="HERE:THERE",
    help="Lead port HERE of this machine's loopback address to the guest's port THERE; may be"
    " repeated.",
)
@click.option(
    "--append",
    "options",
    multiple=True,
    metavar="OPTION",
    help="Boot with this kernel option (preempt=full); may be repeated.",
)
@click.option(
    "--nodes",
    type=int,
    metavar="N",
    default=1,
    show_default=True,
    help="How many NUMA nodes share the CPUs and the memory.",
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
    forwards: tuple[tuple[int, int], ...],
    options: tuple[str, ...],
    nodes: int,
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Boot a kernel, run COMMAND in it as root, and exit with its status.

    COMMAND runs in this directory and finds the programs that are found here, this
    pte-trace first. Its standard input is empty; its output and errors pass through
    unchanged. A kernel that is missing is fetched or built first. Exit status 3 where the
    guest cannot be booted, dies or takes too long.

    \b
    Examples:
      pte-trace lab run -- uname -r
      pte-trace lab run --kernel sid -- pte-trace run -- ./program
      pte-trace lab run --icount --rwdir results -- sh -c './bench > results/bench.txt'
    """
    guest = Guest(
        cpus,
        memory,
        icount,
        timeout,
        rwdirs,
        verbose=verbose,
        forwards=forwards,
        options=options,
        nodes=nodes,
    )
    progress = Progress()
    kernel = ready(name, progress)
    ctx.exit(stream(kernel, command, guest, _sink(sys.stdout), _sink(sys.stderr), progress))


def _sink(stream_: TextIO) -> Sink:
    def write(data: bytes) -> None:
        stream_.buffer.write(data)
        stream_.flush()

    return write
