"""What was found on each kernel of the lab, a file each, so that one can be asked anew.

A kernel may have options to boot with behind its name, as trixie+preempt=full.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.bench import guest


def ask(module: str, kernels: Iterable[str], folder: Path, timeout: float) -> None:
    """Keep in *folder* what *module*'s `measure` finds in a guest of each of *kernels*."""
    folder.mkdir(exist_ok=True)
    for kernel in kernels:
        print(kernel, flush=True)
        name, *options = kernel.split("+")
        found = guest.measured(module, name, timeout, icount=False, options=options)
        (folder / f"{kernel}.json").write_text(json.dumps(found, indent=2) + "\n")


def kept(folder: Path) -> dict[str, Any]:
    """By kernel, the oldest ``release`` first; of a pair, the one without the optimization."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}

    def age(kernel: str) -> tuple[list[int], bool, str]:
        version = re.match(r"[\d.]+", found[kernel]["release"])
        assert version is not None
        return [*map(int, version[0].split("."))], not kernel.startswith("unpatched"), kernel

    return {kernel: found[kernel] for kernel in sorted(found, key=age)}
