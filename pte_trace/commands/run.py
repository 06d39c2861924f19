"""`pte-trace run`: trace a command and its children, report when it ends."""

from __future__ import annotations

import sys
from itertools import repeat

import click

from pte_trace.commands import child, options
from pte_trace.views import write


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@options.tracing(children=True, formats=(*options.FORMATS, *options.PROFILES))
@options.rows(default=100)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def run(request: options.Request, rows: int | None, command: tuple[str, ...]) -> None:
    """Trace COMMAND and all its children, and print a report when it ends.

    It is traced from its first instruction on, its children from their fork on; with -p, so are
    processes that run already, meanwhile. The text report goes to standard error, as
    `perf stat` does, what else is written to standard output; -o FILE takes either. The exit status
    is COMMAND's own (128 + N where signal N ended it; 127 where it was not found, 126 where it
    cannot be executed).

    \b
    Examples:
      sudo pte-trace run -- ./program --its-option
      sudo pte-trace run --format json -o faults.json -- make -j8
      sudo pte-trace run -c postgres -- ./benchmark.sh
      sudo pte-trace run --stacks 1/10 -- ./program
    """
    default = sys.stderr if request.style == "text" else sys.stdout
    with request.output(default) as stream, request.session() as session:
        session.start()
        with child.running(command, session) as started:
            returncode = child.wait(started, repeat(child.READING_S), session.gather)
        session.gather()
        write.report(session.total(), request.style, stream, rows)
    click.get_current_context().exit(child.status(returncode))
