"""Options that several commands share, checked before anything is traced."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from pte_trace.errors import UsageError
from pte_trace.filters import COMM_LENGTH, Filters
from pte_trace.plan import How

F = TypeVar("F", bound=Callable[..., Any])

_CGROUP_MOUNT = Path("/sys/fs/cgroup")
FORMATS = ("text", "json", "csv")
_WAYS = {
    "auto": (How.FENTRY, How.KPROBE),
    "fentry": (How.FENTRY,),
    "kprobe": (How.KPROBE,),
}


def filters(command: F) -> F:
    """-p, -c and --cgroup: each may be given, an event passes that satisfies all given."""
    for option in (
        click.option(
            "--cgroup", metavar="PATH", help="Only processes in this cgroup (v2) or below."
        ),
        click.option("-c", "--comm", metavar="NAME", help="Only processes of this name."),
        click.option(
            "-p",
            "--pid",
            "pids",
            type=click.IntRange(min=1),
            multiple=True,
            metavar="PID",
            help="Only this process; may be repeated.",
        ),
    ):
        command = option(command)
    return command


def output(command: F) -> F:
    """--format, -o, --split and --attach."""
    for option in (
        click.option(
            "--attach",
            type=click.Choice(sorted(_WAYS)),
            default="auto",
            show_default=True,
            help="How to hook the kernel's functions.",
        ),
        click.option("--split", is_flag=True, help="One row per VMA, as mprotect split them."),
        click.option(
            "-o",
            "--output",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Write to FILE.",
        ),
        click.option(
            "--format",
            "style",
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            help="What to write.",
        ),
    ):
        command = option(command)
    return command


def ways(attach: str) -> tuple[How, ...]:
    return _WAYS[attach]


def make_filters(
    pids: tuple[int, ...], comm: str | None, cgroup: str | None, *, children: bool = False
) -> Filters:
    """Check what was given. Raises UsageError."""
    for pid in pids:
        _check_process(pid)
    if comm is not None:
        if not comm:
            raise UsageError(
                "A process name cannot be empty.", "Give -c a name as `ps -o comm` shows it."
            )
        comm = comm.encode()[:COMM_LENGTH].decode("utf-8", "ignore")
    return Filters(pids, comm, _cgroup(cgroup), children)


def _check_process(pid: int) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError as error:
        raise UsageError(
            f"There is no process {pid}.", "See `ps -e` for those there are."
        ) from error
    tgid = int(status.split("Tgid:")[1].split()[0])
    if tgid != pid:
        raise UsageError(f"{pid} is a thread of process {tgid}.", f"Filter by process: -p {tgid}")


def _cgroup(given: str | None) -> Path | None:
    if given is None:
        return None
    for path in (Path(given), _CGROUP_MOUNT / given.lstrip("/")):
        if (path / "cgroup.procs").is_file() and (path / "cgroup.controllers").is_file():
            return path
    raise UsageError(
        f"{given} is not a cgroup (version 2).",
        f"Give a directory below {_CGROUP_MOUNT}; `systemd-cgls` lists them.",
    )


@contextmanager
def opened(path: Path | None, default: IO[str]) -> Any:
    """*path* opened for writing, or *default*. Raises UsageError at once where it cannot be."""
    if path is None:
        yield default
        return
    try:
        stream = path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}.", "Give -o a file you may write."
        ) from error
    with stream:
        yield stream


def stdout() -> IO[str]:
    return sys.stdout
