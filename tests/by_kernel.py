"""What was found on each kernel of the lab, a file each, so that one can be asked anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def keep(folder: Path, kernel: str, found: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{kernel}.json").write_text(json.dumps(found, indent=2) + "\n")


def kept(folder: Path) -> dict[str, Any]:
    """By kernel, the oldest ``release`` first; of a pair, the one without the optimization."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}

    def age(kernel: str) -> tuple[list[int], bool, str]:
        version = re.match(r"[\d.]+", found[kernel]["release"])
        assert version is not None
        return [*map(int, version[0].split("."))], not kernel.startswith("unpatched"), kernel

    return {kernel: found[kernel] for kernel in sorted(found, key=age)}
