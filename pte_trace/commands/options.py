"""Options that the tracing commands share, checked before anything is traced."""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import IO, Any

import click

from pte_trace.counted.where import directory_of_unit, where
from pte_trace.effort import Effort
from pte_trace.errors import UsageError
from pte_trace.filters import COMM_LENGTH, UNIT_LENGTH, Filters
from pte_trace.host.plan import How
from pte_trace.programs.program import Capacity
from pte_trace.session import Session
from pte_trace.target import Target
from pte_trace.views import write

_CGROUP_MOUNT = Path("/sys/fs/cgroup")
_CGROUPS = f"Give a directory below {_CGROUP_MOUNT}; `systemd-cgls` lists them."
FORMATS = ("text", "json", "csv")
# Of stacks; those are noted where one of these is asked for.
PROFILES = ("folded", "pprof")
_BINARY = "pprof"
# Some three hundred years.
LONGEST_WAIT_S = threading.TIMEOUT_MAX
_WAYS = {
    "auto": tuple(How),
    "fentry": (How.FENTRY,),
    "kprobe": (How.KPROBE,),
}


class _Inspect(click.ParamType):  # type: ignore[type-arg]
    name = "inspect"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value == "all":
            return None
        if value == "none":
            return 0
        if not re.fullmatch(r"[1-9][0-9]{0,8}", value):
            self.fail(f"{value!r} is neither all, none nor a number of page tables.", param, ctx)
        return int(value)


class _Costs(click.ParamType):  # type: ignore[type-arg]
    name = "costs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"all|none|1/([1-9][0-9]{0,8})", value)
        if not found:
            self.fail(f"{value!r} is neither all, none nor a share as 1/100.", param, ctx)
        return {"all": 1, "none": 0}.get(value) or int(found[1] or 0)


class _Stacks(_Costs):
    name = "stacks"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value not in ("all", "none") and not str(value).startswith("1/"):
            self.fail(f"{value!r} is no share as 1/100. A command comes after --.", param, ctx)
        return super().convert(value, param, ctx)


_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _output(formats: tuple[str, ...]) -> tuple[_Decorator, ...]:
    """--format and -o; nothing where there are no *formats*."""
    if not formats:
        return ()
    return (
        click.option(
            "--format",
            "style",
            type=click.Choice(formats),
            default=formats[0],
            show_default=True,
            help="What to write.",
        ),
        click.option(
            "-o",
            "--output",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write to FILE.",
        ),
    )


def check_binary(style: str, path: Path | None) -> None:
    """Raises UsageError where a terminal would get it."""
    if style == _BINARY and path is None and sys.stdout.isatty():
        raise UsageError("A profile is no text for a terminal.", "Give -o FILE, as faults.pb.gz.")


def _process(said: str) -> _Decorator:
    return click.option(
        "-p",
        "--pid",
        "pids",
        type=click.IntRange(min=1),
        multiple=True,
        metavar="PID",
        help=said,
    )


def _megabytes(vmas: int) -> str:
    return f"{Capacity.of(vmas).kernel_bytes / 1e6:,.0f} MB"


_SPLIT = click.option("--split", is_flag=True, help="One row per VMA, as mprotect split them.")
_STACKS = click.option(
    "--stacks",
    type=_Stacks(),
    is_flag=False,
    flag_value="all",
    default="none",
    metavar="[1/N]",
    help="Note from where in the program write faults and protection changes come, of all or of"
    " one of N (see `pte-trace explain --help`).",
)
_OTHER_FILTERS = (
    click.option("-c", "--comm", metavar="NAME", help="Only processes of this name."),
    click.option("--cgroup", metavar="PATH", help="Only processes in this cgroup (v2) or below."),
    click.option(
        "--unit", metavar="NAME", help="Only processes of this systemd unit, as nginx.service."
    ),
    click.option(
        "--container",
        metavar="ID",
        help="Only processes in this container: its id, or how it begins (12 letters).",
    ),
)
_MEASURES = (
    click.option(
        "--max-vmas",
        type=click.IntRange(min=64, max=1_000_000),
        default=Capacity.records,
        show_default=True,
        metavar="N",
        help="Room in the kernel for so many VMAs between two readings, and their names:"
        f" {_megabytes(Capacity.records)} of its memory, {_megabytes(100_000)} for 100,000.",
    ),
    click.option(
        "--inspect",
        type=_Inspect(),
        default="all",
        show_default=True,
        metavar="all|N|none",
        help="Look at the PTEs of all page tables that a protection change touched, of the first N"
        " or of none.",
    ),
    click.option(
        "--costs",
        type=_Costs(),
        default="all",
        show_default=True,
        metavar="all|1/N|none",
        help="Time all write faults, one of N, or none.",
    ),
    click.option(
        "--attach",
        type=click.Choice(sorted(_WAYS)),
        default="auto",
        show_default=True,
        help="How to hook the kernel's functions.",
    ),
)


@dataclass(frozen=True)
class Request:
    """What was asked for with the shared options."""

    filters: Filters
    style: str
    path: Path | None
    split: bool
    max_vmas: int
    attach: str
    effort: Effort

    def session(self, *, keep: bool = True) -> Session:
        if self.max_vmas > Capacity.records:
            taken = f"Room for {self.max_vmas:,} VMAs takes {_megabytes(self.max_vmas)}"
            click.echo(f"pte-trace: {taken} of the kernel's memory (--max-vmas).", err=True)
        return Session(
            self.filters,
            effort=self.effort,
            capacity=Capacity.of(self.max_vmas),
            ways=_WAYS[self.attach],
            split=self.split,
            keep=keep,
            working=write.working,
        )

    def output(self, default: IO[str]) -> AbstractContextManager[IO[str]]:
        """-o's file, or *default*."""
        return output(self.path, default)


@contextmanager
def output(path: Path | None, default: IO[str]) -> Iterator[IO[str]]:
    """-o's file, opened before anything is traced, or *default*. Raises UsageError.

    What is refused, or ends before its first output, leaves the file as it was.
    """
    if path is None:
        yield default
        return
    stream = io.TextIOWrapper(io.BufferedWriter(_open(path)), encoding="utf-8")
    try:
        yield stream
    except BaseException:
        with suppress(OSError):
            stream.close()
        raise
    stream.close()


def reserved(path: Path) -> AbstractContextManager[object]:
    """Know that *path* can be written before anything is traced; left as `output` leaves it.

    Raises UsageError.
    """
    return closing(_open(path))


def _open(path: Path) -> Target:
    try:
        return Target(path)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.", "Give -o a file you may write."
        ) from error


def tracing(
    *,
    children: bool = False,
    formats: tuple[str, ...] = FORMATS,
    split: bool = True,
    stacks: bool = True,
    one_process: bool = False,
) -> _Decorator:
    """Give a command the shared options; it gets them as one Request, its first argument.

    With *children* it traces what it starts itself. Without *formats* it has no --format and -o,
    without *split* no --split, without *stacks* no --stacks. With *one_process* -p is not offered
    as one that may be repeated.
    """
    shared = (
        _process("This process." if one_process else "Only this process; may be repeated."),
        *_OTHER_FILTERS,
        *_output(formats),
        *((_SPLIT,) if split else ()),
        *((_STACKS,) if stacks else ()),
        *_MEASURES,
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapped(
            *,
            pids: tuple[int, ...],
            comm: str | None,
            cgroup: str | None,
            unit: str | None,
            container: str | None,
            max_vmas: int,
            inspect: int | None,
            costs: int,
            attach: str,
            stacks: int = 0,
            style: str = "text",
            path: Path | None = None,
            split: bool = False,
            **own: Any,
        ) -> Any:
            filters = make_filters(
                pids, comm, cgroup, unit=unit, container=container, children=children
            )
            effort = Effort(inspect, costs, stacks or int(style in PROFILES))
            check_binary(style, path)
            request = Request(filters, style, path, split, max_vmas, attach, effort)
            return command(request, **own)

        result: Callable[..., Any] = wrapped
        for option in reversed(shared):
            result = option(result)
        return result

    return decorate


class _Rows(click.ParamType):  # type: ignore[type-arg]
    """How many rows to show: a number from 1 on, or None for all."""

    name = "rows"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        if value == "all":
            return None
        number: int = click.IntRange(min=1).convert(value, param, ctx)
        return number


def rows(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command --rows, as `rows`; None for all."""
    return click.option(
        "--rows",
        type=_Rows(),
        default=default,
        show_default=True,
        metavar="N|all",
        help="Show at most N mappings as text; the totals are of all.",
    )


def output_options(formats: tuple[str, ...] = FORMATS) -> _Decorator:
    """Give a command --format and -o, as `style` and `path`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(_output(formats)):
            command = option(command)
        return command

    return decorate


def seconds(ctx: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A time that can be waited for: click's FloatRange lets nan and inf through."""
    if value is not None and not value <= LONGEST_WAIT_S:
        raise click.BadParameter(f"{value} is not a number of seconds.", ctx, parameter)
    return value


def make_filters(
    pids: tuple[int, ...],
    comm: str | None,
    cgroup: str | None,
    *,
    unit: str | None = None,
    container: str | None = None,
    children: bool = False,
) -> Filters:
    """Check what was given. Raises UsageError."""
    for pid in pids:
        _check_process(pid)
    if comm is not None:
        if not comm:
            raise UsageError(
                "A process name cannot be empty.", "Give -c a name as `ps -o comm` shows it."
            )
        # As the kernel cuts it: after so many bytes, be it within a letter.
        comm = os.fsdecode(os.fsencode(comm)[:COMM_LENGTH])
    for given in (unit, container):
        _check_version_2(given)
    return Filters(pids, comm, _cgroup(cgroup), children, _unit(unit), _container(container))


def _check_process(pid: int) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError as error:
        raise UsageError(
            f"There is no process {pid}.", "See `ps -e` for those there are."
        ) from error
    tgid = re.search(rb"^Tgid:\s*(\d+)$", status, re.MULTILINE)
    if tgid and int(tgid[1]) != pid:
        leader = int(tgid[1])
        raise UsageError(
            f"{pid} is a thread of process {leader}.", f"Filter by process: -p {leader}"
        )


def _check_version_2(given: str | None) -> None:
    if given is not None and not any(map(_is_cgroup, (_CGROUP_MOUNT, _CGROUP_MOUNT / "unified"))):
        raise UsageError(
            "There are no cgroups of version 2 here, by which units and containers are known.",
            "Filter by process (-p) or by name (-c).",
        )


def _unit(given: str | None) -> str | None:
    if given is None:
        return None
    directory = directory_of_unit(given)
    if where(directory).unit == given and len(os.fsencode(directory)) <= UNIT_LENGTH:
        return given
    raise UsageError(
        f"{given!r} is not the name of a unit with processes.",
        "Give it whole, as nginx.service; `systemctl list-units` shows them.",
    )


def _container(given: str | None) -> str | None:
    if given is None or re.fullmatch(r"[0-9a-f]{12,64}", given):
        return given
    raise UsageError(
        f"{given!r} is not the id of a container.",
        "Give at least 12 letters of it, as `docker ps`, `podman ps` or `crictl ps` show them.",
    )


def _is_cgroup(path: Path) -> bool:
    return (path / "cgroup.procs").is_file() and (path / "cgroup.controllers").is_file()


def _cgroup(given: str | None) -> Path | None:
    if given is None:
        return None
    if not given:
        raise UsageError("A cgroup's path cannot be empty.", _CGROUPS)
    for path in (Path(given), _CGROUP_MOUNT / given.lstrip("/")):
        if _is_cgroup(path):
            return path
    raise UsageError(
        f"{given} is not a cgroup (version 2).",
        _CGROUPS,
    )
