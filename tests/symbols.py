"""Files as they are mapped, to ask for names in them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from pte_trace.counted.stacks import CodeMapping, Named, Place
from pte_trace.symbols.names import names

# No process has so high a number.
_NOBODYS = 2**22 + 1


def mapped(path: Path, **changes: Any) -> CodeMapping:
    """All of *path*, as the kernel noted it."""
    found = path.stat()
    dev = os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    whole = CodeMapping(_NOBODYS, None, 0, 1 << 40, 0, found.st_ino, dev, str(path))
    return dataclasses.replace(whole, **changes)


def named(path: Path, *offsets: int) -> Named:
    """What is at the one of *offsets*, or at the last of them."""
    places = [Place(mapped(path), offset) for offset in offsets]
    return names(places)[places[-1]]
