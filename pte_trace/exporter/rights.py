"""Giving up the rights that loading the programs took, before anyone is answered.

What a client could bring us to do, it could do with the rights we have. See capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pte_trace.errors import HostError
from pte_trace.kernel import rights, syscalls

# linux/capability.h
_KEPT = {"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_NICE": 23, "CAP_BPF": 39}
_NO_FILE = -1
_UNPRIVILEGED_BPF_DISABLED = Path("/proc/sys/kernel/unprivileged_bpf_disabled")
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24

_libc = ctypes.CDLL(None, use_errno=True)


def give_up(kept: Iterable[str]) -> None:
    """Keep of all capabilities only *kept*, as far as they are there. Root becomes nobody.

    CAP_BPF is kept only where the kernel asks for it when tables are read, which is tried.
    Call it before there are threads: capabilities are each thread's own. Raises HostError where
    root may not change its user.
    """
    effective = _capabilities("CapEff")
    rights.no_new_privileges()
    for capability in _members(_capabilities("CapBnd")):
        # Only root may; for others no-new-privs has the same effect.
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    if os.geteuid() == 0:
        rights.prctl(_PR_SET_KEEPCAPS, 1)
        _become_nobody()
    rights.no_ambient_capabilities()
    permitted = effective & sum(1 << _KEPT[name] for name in set(kept))
    without_bpf = permitted & ~(1 << _KEPT["CAP_BPF"])
    rights.set_capabilities(without_bpf, permitted)
    left = permitted if _tables_take_a_right() else without_bpf
    rights.set_capabilities(left, left)


def _tables_take_a_right() -> bool:
    """Whether bpf(2) refuses us, who have no CAP_BPF now, what takes none but a descriptor.

    Up to Linux 5.18 it does (c8644cd0efe7) unless a setting allows it, which may change yet.
    """
    with suppress(OSError):
        if _UNPRIVILEGED_BPF_DISABLED.read_text().strip() == "0":
            return True
    try:
        syscalls.account(_NO_FILE)
    except OSError as error:
        return error.errno == errno.EPERM
    raise AssertionError("an account of no program")


def _become_nobody() -> None:
    try:
        rights.become_nobody()
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
