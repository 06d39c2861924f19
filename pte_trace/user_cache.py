"""Where pte-trace keeps what it can make again."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache, by the XDG base directory specification; it need not exist.

    Root's is in root's home, where sudo may have left it the variables of who called it.
    """
    if os.geteuid() == 0 and "SUDO_UID" in environ:
        return Path(pwd.getpwuid(0).pw_dir) / ".cache" / "pte-trace"
    shared = environ.get("XDG_CACHE_HOME")
    base = Path(shared) if shared else Path.home() / ".cache"
    return base.absolute() / "pte-trace"
