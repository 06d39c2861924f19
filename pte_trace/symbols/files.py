"""The files that were mapped, as they are found later: the same ones, or none."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pte_trace.counted.stacks import CodeMapping
from pte_trace.fence import RefusedError

_AT_FDCWD = -100
_SYS_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS = 4
# struct open_how: flags, mode, resolve.
_OpenHow = ctypes.c_uint64 * 3

_libc = ctypes.CDLL(None, use_errno=True)


def opened(mapping: CodeMapping) -> int:
    """A descriptor to read the file of *mapping*. Raises RefusedError, OSError.

    What is there by that name now is looked at before it is opened: to open a device or a pipe may
    do something already.
    """
    place = _found(mapping)
    try:
        _check(place, mapping)
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(place)


def _found(mapping: CodeMapping) -> int:
    """By the kernel's own link while the process has it mapped, else by its path."""
    link = f"/proc/{mapping.pid}/map_files/{mapping.start:x}-{mapping.end:x}"
    try:
        return os.open(link, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it has ended, has other mappings now, or is not ours to look at
        return _without_links(mapping.name)


def _without_links(path: str) -> int:
    """The kernel tells no path that has a link in it: one that is there now was put there since.

    Raises OSError, RefusedError.
    """
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    found: int = _libc.syscall(
        _SYS_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how)
    )
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found


def _check(place: int, mapping: CodeMapping) -> None:
    """Raises RefusedError."""
    found = os.fstat(place)
    if not stat.S_ISREG(found.st_mode):
        raise RefusedError("what has its name now is no regular file")
    if found.st_ino != mapping.inode or mapping.dev not in set(_devices(place, found)):
        raise RefusedError("another file has its name now")


def _devices(place: int, found: os.stat_result) -> Iterator[int]:
    """The numbers by which the kernel may have noted the device of *found*, as it packs them.

    A file system such as btrfs tells of its files another device than it has itself; below an
    overlay, a mapping is of the layer's file.
    """
    yield os.major(found.st_dev) << 20 | os.minor(found.st_dev)
    mount = Path(f"/proc/self/fdinfo/{place}").read_text().partition("mnt_id:")[2].split()[0]
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if fields[0] == mount:
                major, minor = map(int, fields[2].split(":"))
                yield major << 20 | minor
