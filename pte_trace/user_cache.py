"""Where pte-trace keeps what it can make again."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pte_trace.errors import HostError

_OTHERS_MAY_WRITE = 0o022
_ROOT = 0
# What is kept, and what is being written or was left by one who was killed as it wrote.
_NAMED_BY_US = re.compile(r"[0-9a-f]{64}\.json(\.\w+)?")


def directory(environ: Mapping[str, str] = os.environ) -> Path:
    """The user's cache, by the XDG base directory specification; it need not exist.

    A service's is where systemd made it one (CacheDirectory= in systemd.exec(5)). Root's is in
    root's home where another user could change anything on the way to what the environment names:
    sudo and su may have left it the variables of who called them. Raises HostError for a user
    without a home.
    """
    if os.geteuid() != _ROOT:
        return _named(environ) or _home() / ".cache" / "pte-trace"
    named = _named(environ)
    if named is not None and is_roots_alone(resolved := Path(os.path.realpath(named))):
        return resolved
    return _home() / ".cache" / "pte-trace"


def _named(environ: Mapping[str, str]) -> Path | None:
    if service := environ.get("CACHE_DIRECTORY"):
        return Path(service)
    if shared := environ.get("XDG_CACHE_HOME"):
        return Path(shared).absolute() / "pte-trace"
    home = environ.get("HOME")
    return Path(home) / ".cache" / "pte-trace" if home else None


def _home() -> Path:
    user = os.geteuid()
    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError as error:
        raise HostError(
            f"The user {user} has no home directory, where pte-trace would keep its cache.",
            "Set XDG_CACHE_HOME to a directory of your own.",
        ) from error


def is_roots_alone(path: Path, *, sticky: bool = False) -> bool:
    """Whether nobody but root can change it, or what is above it, as far as they exist.

    With *sticky* it may be in one such as /tmp, if it is there: nobody else can take its place.
    """
    below = False
    for each in (path, *path.parents):
        try:
            found = each.lstat()
        except FileNotFoundError:
            continue
        except OSError:  # a file system of another user's, which root may not look into
            return False
        kept = sticky and below and found.st_uid == _ROOT and found.st_mode & stat.S_ISVTX
        if not kept and not _is_of(found, {_ROOT}):
            return False
        below = True
    return True


def _is_of(found: os.stat_result, owners: set[int]) -> bool:
    return found.st_uid in owners and not found.st_mode & _OTHERS_MAY_WRITE


def is_ours(path: Path) -> bool:
    """Whether a file or directory is no link, and nobody else, root aside, can write to it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return not stat.S_ISLNK(found.st_mode) and _is_of(found, {_ROOT, os.geteuid()})


def read(path: Path) -> bytes:
    """What is in a file that nobody else, root aside, can have put there; it is used now.

    Raises OSError where there is none, or another user's: what is looked at is what is read.
    """
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)

    try:
        with open(path.name, "rb", opener=opener) as file:
            for each in (folder, file.fileno()):
                if not _is_of(os.fstat(each), {_ROOT, os.geteuid()}):
                    raise PermissionError(f"Another user can write to it: {path}")
            os.utime(file.fileno())
            return file.read()
    finally:
        os.close(folder)


def digest(*parts: bytes) -> str:
    """What a file is called that was made of these."""
    return hashlib.sha256(
        b"".join(struct.pack("=Q", len(part)) + part for part in parts)
    ).hexdigest()


def keep(path: Path, content: bytes, most: int) -> None:
    """Write a file that `read` finds, and delete those of its kind used least lately but *most*.

    *path* ends in a `digest` and ``.json``. Nothing is written where another user could change it.
    Raises OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(path.parent):
        return
    prefix = f"{path.name}."
    with tempfile.NamedTemporaryFile(prefix=prefix, dir=path.parent, delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
    kept = filter(lambda each: _NAMED_BY_US.fullmatch(each.name), path.parent.iterdir())
    for old in sorted(kept, key=_last_used, reverse=True)[most:]:
        old.unlink()


def _last_used(path: Path) -> float:
    return path.lstat().st_mtime
