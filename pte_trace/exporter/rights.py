"""Giving up the rights that loading the programs took, before anyone is answered.

What a client could bring us to do, it could do with the rights we have. See capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

from pte_trace.errors import HostError

# The user and the group that own no file.
NOBODY = 65534

# linux/capability.h
_KEPT = {"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_NICE": 23, "CAP_BPF": 39}
_SYS_CAPSET = 126
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


def give_up(kept: Iterable[str]) -> None:
    """Keep of all capabilities only *kept*, as far as they are there. Root becomes nobody.

    Call it before there are threads: capabilities are each thread's own. Raises HostError where
    root may not change its user.
    """
    effective = _capabilities("CapEff")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    for capability in _members(_capabilities("CapBnd")):
        # Only root may; for others no-new-privs has the same effect.
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if os.geteuid() == 0:
        _prctl(_PR_SET_KEEPCAPS, 1)
        _become_nobody()
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _set_capabilities(effective & sum(1 << _KEPT[name] for name in set(kept)))


def _become_nobody() -> None:
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError as error:
        raise HostError(
            f"Root's rights cannot be given up: {(error.strerror or str(error)).lower()}.",
            "Leave it CAP_SETUID and CAP_SETGID until then, or start it as another user who has"
            " the capabilities that `pte-trace doctor` lists.",
        ) from error


def _capabilities(name: str) -> int:
    with open("/proc/thread-self/status", encoding="utf-8") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields[name], 16)


def _members(capabilities: int) -> Iterable[int]:
    return (bit for bit in range(capabilities.bit_length()) if capabilities >> bit & 1)


def _set_capabilities(kept: int) -> None:
    """Make *kept* all that is effective and permitted; no program started inherits any."""
    low, high = kept & 0xFFFFFFFF, kept >> 32
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    _check(_libc.syscall(_SYS_CAPSET, header, data))


def _prctl(option: int, argument: int) -> None:
    _check(_libc.prctl(option, argument, 0, 0, 0))


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
