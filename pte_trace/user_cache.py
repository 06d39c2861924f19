"""Where pte-trace keeps what it can make again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache, by the XDG base directory specification; it need not exist."""
    shared = environ.get("XDG_CACHE_HOME")
    base = Path(shared) if shared else Path.home() / ".cache"
    return base.absolute() / "pte-trace"
