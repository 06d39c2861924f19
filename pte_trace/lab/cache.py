"""Where kernels are kept. An entry appears whole or not at all.

Layout: kernels/NAME/RELEASE is an unpacked root; what begins with a dot is being made or
removed and belongs to whoever holds the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pte_trace import user_cache
from pte_trace.errors import HostError
from pte_trace.lab import tools
from pte_trace.lab.kernels import Kernel, in_root


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The cache's directory; it need not exist.

    Raises HostError for root where another user can change it, or what is above it: what is in it
    is booted, as root.
    """
    if own := environ.get("PTE_TRACE_LAB_CACHE"):
        cache = Path(os.path.realpath(own))
        if os.geteuid() == 0 and not user_cache.is_roots_alone(cache, sticky=True):
            raise HostError(
                f"Another user can change the cache {cache}, or a directory above it: root boots"
                " nothing from there.",
                "Set PTE_TRACE_LAB_CACHE to a directory below root's own, or leave it out.",
            )
        return cache
    return user_cache.directory(environ) / "lab"


def find(cache: Path, name: str) -> Kernel | None:
    """The kernel of this name, None where there is none or only a part of one."""
    for root in sorted(entries(cache, name).glob("[!.]*")):
        if kernel := in_root(name, root):
            return kernel
    return None


def entries(cache: Path, name: str) -> Path:
    """Where the kernels of this name are."""
    return cache / "kernels" / name


@contextmanager
def new_entry(entries: Path, name: str) -> Iterator[Path]:
    """An empty directory that takes the place of all in `entries` when the body is done.

    Hold the lock. Where the body raises, the old entries stay.
    """
    entries.mkdir(parents=True, exist_ok=True)
    for left in entries.glob(".*"):
        shutil.rmtree(left)
    made = Path(tempfile.mkdtemp(prefix=".new-", dir=entries))
    # mkdtemp's 0700 would hide the modules from a guest that another user boots.
    made.chmod(0o755)
    try:
        yield made
        for old in entries.glob("[!.]*"):
            # Renamed first: an entry removed half must not be found.
            old.rename(entries / f".old-{old.name}")
        made.rename(entries / name)
    finally:
        for left in entries.glob(".*"):
            shutil.rmtree(left)


@contextmanager
def locked(cache: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one that changes the cache; `waiting` is called once if another is.

    What the cache's disk refuses meanwhile becomes a HostError.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise tools.disk_full(cache) from error
        raise HostError(
            f"The cache {cache} cannot be written: {error.strerror}.",
            "Set PTE_TRACE_LAB_CACHE to a directory of your own.",
        ) from error


def size(root: Path) -> int:
    """Bytes that a directory takes on disk."""
    return sum(
        os.lstat(os.path.join(where, name)).st_blocks * 512
        for where, _, names in os.walk(root)
        for name in names
    )
