"""A file to write to: the one that is meant, and as it was until something is written.

Who calls us is perhaps root, and the directory one in which anybody may make files.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import signal
import stat
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_MOST_LINKS = 40
_ANYBODYS = stat.S_ISVTX | stat.S_IWOTH
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_BLOCK = 1 << 20
_UNTIL_REPLACED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Of every file, where SELinux is; it comes with the directory.
_LABEL = "security.selinux"


class Target(io.FileIO):
    """A file, pipe or device that stays as it was until something is written to it."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._directory, self._name = _place(os.fsdecode(path))
        try:
            self._made = False
            self._begun = False
            super().__init__(path, "w", opener=self._opened)
        except BaseException:
            os.close(self._directory)
            raise

    def _opened(self, name: str, flags: int) -> int:
        """No pipe of another user's, who may never read from it, in a directory such as /tmp."""
        for standard in (1, 2):
            with suppress(OSError):
                if os.path.samestat(os.stat(name), os.fstat(standard)):
                    self._begun = True  # by others, who go on writing to it
                    return os.dup(standard)
        flags &= ~(os.O_TRUNC | os.O_CREAT)
        follow = 0 if _on_proc(self._directory) else os.O_NOFOLLOW
        try:
            found = os.lstat(self._name, dir_fd=self._directory)
            if not stat.S_ISLNK(found.st_mode):
                _check_planted(self._directory, found, name)
            return os.open(self._name, flags | follow, dir_fd=self._directory)
        except FileNotFoundError:
            new = flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            opened = os.open(self._name, new, 0o666, dir_fd=self._directory)
            self._made = True
            return opened

    def write(self, data: Any, /) -> int:
        if not self._begun:
            self._begun = True
            with suppress(OSError):  # a pipe has nothing to cut off
                self.truncate()
        return super().write(data)

    def append(self, data: bytes) -> None:
        """Write all of *data*, or nothing. Raises OSError where there is no room for all."""
        left = memoryview(data)
        try:
            while left:
                left = left[self.write(left) :]
        except OSError:
            with suppress(OSError):  # what a pipe has taken it has
                self.seek(len(left) - len(data), os.SEEK_CUR)
                self.truncate()
            raise

    def close(self) -> None:
        if self.closed:
            return
        try:
            if self._made and not os.fstat(self.fileno()).st_size and self._is_there():
                os.unlink(self._name, dir_fd=self._directory)
        finally:
            os.close(self._directory)
            super().close()

    def _is_there(self) -> bool:
        """Whether the file has its name still."""
        try:
            found = os.lstat(self._name, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.fileno()))

    @contextmanager
    def other(self) -> Iterator[io.FileIO]:
        """A file to write what is to take the place of all that is in this one.

        Where the body ends well it does: owner, permissions and other names stay, and at no moment
        is there less than one of the two. Raises OSError.
        """
        name = f".pte-trace-{secrets.token_hex(8)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            beside = os.open(name, flags, 0o600, dir_fd=self._directory)
        except OSError:  # the file may be written, but not its directory
            with tempfile.TemporaryFile(buffering=0) as elsewhere:
                assert isinstance(elsewhere, io.FileIO)
                yield elsewhere
                self._filled_from(elsewhere)
            return
        with io.FileIO(beside, "r+") as file:
            try:
                yield file
                os.fsync(beside)
                if not self._replaced_by(file, name):
                    self._filled_from(file)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self._directory)

    def _replaced_by(self, file: io.FileIO, name: str) -> bool:
        """False where something of this file would be lost with it."""
        now, other = os.fstat(self.fileno()), os.fstat(file.fileno())
        links = 1 if self._is_there() else 0
        try:
            if now.st_nlink != links or set(os.listxattr(self.fileno())) - {_LABEL}:
                return False
            if (now.st_uid, now.st_gid) != (other.st_uid, other.st_gid):
                os.fchown(file.fileno(), now.st_uid, now.st_gid)
            os.fchmod(file.fileno(), stat.S_IMODE(now.st_mode))
            os.replace(name, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError:  # it is another's, or a file system is bound to its name
            return False
        return True

    def _filled_from(self, file: io.FileIO) -> None:
        """Room comes first: without it all stays as it is."""
        size = os.fstat(file.fileno()).st_size
        os.posix_fallocate(self.fileno(), 0, size)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _UNTIL_REPLACED)
        try:
            place = 0
            while block := os.pread(file.fileno(), _BLOCK, place):
                place += os.pwrite(self.fileno(), block, place)
            self.truncate(size)
            os.fsync(self.fileno())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _place(path: str) -> tuple[int, str]:
    """The directory of the file at the end of *path*, opened, and its name in it.

    That name is no link, but for those of /proc. Links are followed as the kernel does with
    fs.protected_symlinks, whether that is set or not: no other user's in a directory such as /tmp.
    Raises OSError.
    """
    left = deque(_parts(path))
    directory = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    links = 0
    try:
        while True:
            name = left.popleft() if left else "."
            link = _link(directory, name, path)
            if link is None and not left:
                return directory, name
            if link is None:
                directory = _into(directory, name)
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            left.extendleft(reversed(_parts(link)))
            if link.startswith("/"):
                directory = _into(directory, "/")
    except BaseException:
        os.close(directory)
        raise


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return [*parts, "."] if path.endswith("/") else parts


def _into(directory: int, name: str) -> int:
    follow = 0 if _on_proc(directory) else os.O_NOFOLLOW
    below = os.open(name, _DIRECTORY | follow, dir_fd=directory)
    os.close(directory)
    return below


def _link(directory: int, name: str, path: str) -> str | None:
    """Where the link *name* leads; None where it is none, or one that the kernel alone follows."""
    try:
        found = os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(found.st_mode) or _on_proc(directory):
        return None
    _check_planted(directory, found, path)
    return os.readlink(name, dir_fd=directory)


def _check_planted(directory: int, found: os.stat_result, path: str) -> None:
    """Raises PermissionError for another user's link or file in a directory such as /tmp."""
    around = os.fstat(directory)
    anybodys = around.st_mode & _ANYBODYS == _ANYBODYS
    if anybodys and found.st_uid not in (os.geteuid(), around.st_uid):
        raise PermissionError(errno.EACCES, "another user put there what has this name", path)


def _on_proc(directory: int) -> bool:
    """Whether its links lead to what has no name, such as pipes."""
    return os.fstat(directory).st_dev == os.stat("/proc").st_dev
