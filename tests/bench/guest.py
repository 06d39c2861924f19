"""A benchmark that measures in a guest, where a nanosecond is an instruction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pte_trace import lab
from pte_trace.programs.program import kernel_tree

_IN_GUEST = "--in-guest"
_ADDRESS = "127.0.0.1:9818"
# What a figure may differ by from the recorded one: the times of processes come in ticks.
_SAME = 0.005


def record(found: Any, table: Table, path: Path) -> None:
    """Print *table*, which shows what was *found*, and what is not as in *path*; keep it there."""
    Console(width=160).print(table)
    if path.exists():
        print(*_changed(found, json.loads(path.read_text())), sep="\n")
    path.write_text(json.dumps(found, indent=2) + "\n")


def _changed(found: Any, recorded: Any) -> Iterator[str]:
    now, before = dict(_figures(found)), dict(_figures(recorded))
    for name in now | before:
        was, is_ = before.get(name), now.get(name)
        if was is None or is_ is None or abs(is_ - was) > _SAME * abs(was):
            yield f"{name}: {_shown(is_)}, was {_shown(was)}"


def _figures(found: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """All numbers in a JSON document, by where they are."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _figures(value, f"{name}, {key}" if name else key)
    elif isinstance(found, int | float):
        yield name, found


def _shown(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:,.0f}"


def measured(
    module: str,
    kernel: str,
    timeout: float,
    *,
    cpus: int = 1,
    plugin: str | None = None,
    icount: bool = True,
    options: Sequence[str] = (),
) -> Any:
    """What *module*'s `measure` returned in a guest of *kernel*; ends the program if it failed.

    It counts instructions, or has QEMU's *plugin* do that; without *icount* nobody does. The kernel
    is booted with *options*.
    """
    command = ("python", "-m", module, _IN_GUEST)
    icount = icount and not plugin
    done = lab.run(
        kernel,
        command,
        icount=icount,
        cpus=cpus,
        plugin=plugin,
        timeout=timeout,
        options=options,
    )
    if done.returncode:
        sys.exit(f"{kernel}: {done.stderr.decode(errors='replace')}")
    return json.loads(done.stdout.splitlines()[-1])


def bcc_program(text: str) -> Any:
    """BCC's own BPF object of *text*, made with our headers; they stay what this process uses."""
    from bcc import BPF

    os.environ["BCC_KERNEL_SOURCE"] = kernel_tree()
    return BPF(text=text.encode())


@contextmanager
def serving() -> Iterator[int]:
    """`pte-trace serve`, attached; its PID."""
    command = [sys.executable, "-m", "pte_trace", "serve", "--listen", _ADDRESS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        process.stderr.readline()
        try:
            yield process.pid
        finally:
            process.terminate()


def scrape() -> None:
    """Have it scraped."""
    with urllib.request.urlopen(f"http://{_ADDRESS}/metrics", timeout=120) as answer:
        answer.read()


def program(measure: Callable[[], Any], main: Callable[..., None]) -> None:
    """*measure* where this is the guest, else *main* with the kernels that were asked for."""
    if sys.argv[1:] == [_IN_GUEST]:
        print(json.dumps(measure()))
    else:
        main(*sys.argv[1:])
