"""A benchmark that measures in a guest, where a nanosecond is an instruction."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pte_trace import lab
from pte_trace.program import kernel_tree

_IN_GUEST = "--in-guest"


def record(found: Any, table: Table, path: Path) -> None:
    """Print *table*, which shows what was *found*, and keep that."""
    Console(width=160).print(table)
    path.write_text(json.dumps(found, indent=2) + "\n")


def measured(module: str, kernel: str, timeout: float) -> Any:
    """What *module*'s `measure` returned in a guest of *kernel*; ends the program if it failed."""
    done = lab.run(kernel, ("python", "-m", module, _IN_GUEST), icount=True, timeout=timeout)
    if done.returncode:
        sys.exit(f"{kernel}: {done.stderr.decode(errors='replace')}")
    return json.loads(done.stdout.splitlines()[-1])


def bcc_program(text: str) -> Any:
    """BCC's own BPF object of *text*, made with our headers; they stay what this process uses."""
    from bcc import BPF

    os.environ["BCC_KERNEL_SOURCE"] = kernel_tree()
    return BPF(text=text.encode())


def program(measure: Callable[[], Any], main: Callable[[str], None]) -> None:
    """*measure* where this is the guest, else *main* with the kernel that was asked for."""
    if sys.argv[1:] == [_IN_GUEST]:
        print(json.dumps(measure()))
    else:
        main(sys.argv[1])
