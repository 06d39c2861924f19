"""Giving up rights: user, groups and capabilities. See capabilities(7)."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress

# The user and the group that own no file.
NOBODY = 65534

_SYS_CAPSET = 126
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


def give_up_all() -> None:
    """Keep no right but a user's. Root becomes nobody where it may change its user.

    Call it where there are no other threads: rights are each thread's own. Raises OSError.
    """
    no_new_privileges()
    if os.geteuid() == 0:
        with suppress(OSError):  # of a user namespace that has no other user
            become_nobody()
    no_ambient_capabilities()
    set_capabilities(0, 0)


def no_new_privileges() -> None:
    """No program that is started has more rights than this one."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_nobody() -> None:
    """Raises OSError."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def no_ambient_capabilities() -> None:
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def set_capabilities(effective: int, permitted: int) -> None:
    """Make these all that there are; no program started inherits any. Raises OSError."""
    sets = (effective, permitted, 0)
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", *(each & 0xFFFFFFFF for each in sets), *(each >> 32 for each in sets))
    _check(_libc.syscall(_SYS_CAPSET, header, data))


def prctl(option: int, argument: int) -> None:
    """Raises OSError."""
    _check(_libc.prctl(option, argument, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
