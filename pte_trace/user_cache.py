"""Where pte-trace keeps what it can make again."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

_OTHERS_MAY_WRITE = 0o022


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache, by the XDG base directory specification; it need not exist.

    Root's is in root's home, where sudo may have left it the variables of who called it. A
    service's is where systemd made it one (CacheDirectory= in systemd.exec(5)).
    """
    if os.geteuid() == 0 and "SUDO_UID" in environ:
        return Path(pwd.getpwuid(0).pw_dir) / ".cache" / "pte-trace"
    if service := environ.get("CACHE_DIRECTORY"):
        return Path(service)
    shared = environ.get("XDG_CACHE_HOME")
    base = Path(shared) if shared else Path.home() / ".cache"
    return base.absolute() / "pte-trace"


def is_ours(path: Path) -> bool:
    """Whether nobody else, root aside, can have put this file there: root may work in a home."""
    try:
        found = (path.parent.stat(), path.stat())
    except OSError:
        return False
    owners = (0, os.geteuid())
    return all(each.st_uid in owners and not each.st_mode & _OTHERS_MAY_WRITE for each in found)
