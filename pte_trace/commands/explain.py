"""`pte-trace explain`: the story of one process, mapping by mapping."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import IO

import click

from pte_trace.commands import child, options
from pte_trace.counted import explanation
from pte_trace.errors import UsageError
from pte_trace.session import Session, is_running
from pte_trace.views import explained, text, write


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-d",
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    callback=options.seconds,
    metavar="SECONDS",
    help="With -p: end after so long.",
)
@options.tracing(formats=("text", "json", *options.PROFILES), one_process=True)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def explain(
    request: options.Request,
    duration: float | None,
    command: tuple[str, ...],
) -> None:
    """Explain the write faults of one process, or of COMMAND and its children.

    For each mapping: what changed its protection, what was saved, what still faults and what would
    have to differ, each with the counts by which it is known, and with what these cannot tell.
    With -p until the process ends, Ctrl-C or SECONDS are over; COMMAND from its first instruction
    to its end. Text goes to standard output, with COMMAND to standard error; JSON is the
    document of `pte-trace run` with an "explanations" list. The exit status is COMMAND's own.

    With --stacks each write fault has who wrote, and each protection change the calls that led to
    it, the innermost function first. A fault is by "user": the program itself, and the first place
    is the very instruction; by "kernel": a system call of the program's own, say read(2) into a
    buffer, and the first place is where it was made; or "remote": another process, or a kernel
    thread, of which no place is told. Of a change the first place is what called the kernel. From
    there on a stack is what frame pointers lead to. Code compiled without them, as much of a
    distribution is, ends the stack or hides a caller; but where the C library's mprotect() called
    the kernel its caller is right as well (not in a 32-bit program). Inlined functions have the
    name of the one they are in. Names come from the files' symbol tables, and from /usr/lib/debug
    where there are separate ones; code in no file is [jit], addresses that are not known to be
    code are [unknown]. Of more than 4,096 stacks the rarer ones are shown by their innermost
    function alone. With --stacks 1/N one of N faults and changes has a stack: its numbers are a
    sample, and are not multiplied. --format folded (for FlameGraph's scripts, of write faults) and
    pprof (for `go tool pprof` and others) write the stacks alone.

    \b
    Examples:
      sudo pte-trace explain -- ./program
      sudo pte-trace explain --stacks -p 1234 -d 10
      sudo pte-trace explain --format pprof -o faults.pb.gz -- ./program
      sudo pte-trace explain --format json -o why.json -- ./program
    """
    filters = request.filters
    if len(filters.pids) + bool(command) != 1:
        raise UsageError(
            "`explain` is about one process.", "Give one -p PID, or a command after --."
        )
    if command and duration is not None:
        raise UsageError("A command is explained up to its end.", "Leave out -d.")
    request = replace(
        request,
        filters=replace(filters, children=bool(command)),
    )
    default = sys.stderr if command and request.style == "text" else sys.stdout
    status = 0
    children: dict[int, set[int]] = {}
    with request.output(default) as stream, request.session() as session:
        session.start()
        if command:
            with child.running(command, session) as started:
                returncode = child.wait(started, repeat(child.READING_S), session.gather)
            status = child.status(returncode)
            session.gather()
        else:
            _until_ended(session, duration, lambda: _note_children(filters.pids[0], children))
        _write(session, children, request.style, stream)
    click.get_current_context().exit(status)


def _until_ended(session: Session, duration: float | None, meanwhile: Callable[[], object]) -> None:
    """Read until a signal comes, the process ends or so many seconds are over.

    *meanwhile* is called before each reading, and at first.
    """
    with child.signals_end() as stopped:
        due = math.inf if duration is None else time.monotonic() + duration
        ended = False
        meanwhile()
        while not ended:
            stopped.wait(max(0.0, min(child.READING_S, due - time.monotonic())))
            ended = stopped.is_set() or session.processes_ended() or time.monotonic() >= due
            meanwhile()
            session.gather()


def _note_children(pid: int, children: dict[int, set[int]]) -> None:
    """Those that have not ended; nothing where the kernel does not tell (CONFIG_PROC_CHILDREN)."""
    with suppress(FileNotFoundError):  # the process has ended
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended
                found = map(int, listed.read_text().split())
                children.setdefault(pid, set()).update(filter(is_running, found))


def _write(session: Session, children: Mapping[int, set[int]], style: str, stream: IO[str]) -> None:
    total, behavior = session.total(), session.facts.behavior
    seen = {pid: len(found) for pid, found in children.items()}
    found = explanation.explain(total, behavior, seen)
    if style in options.PROFILES:
        write.stacks(total, style, stream)
    elif style == "json":
        explained.write_json(total, behavior, found, stream)
    else:
        text.console(stream).print(explained.report(total, found))
    stream.flush()
