"""Whether KVM can be used: proved by a trial boot, since /dev/kvm may exist and hang."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TRIAL_TIMEOUT = 25.0

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def usable(
    cache: Path, trial: Callable[[], bool], device: Path = _DEVICE, boot_id: Path = _BOOT_ID
) -> bool:
    """The verdict of `trial`, which is asked once for each boot of this machine."""
    if not _openable(device):
        return False
    verdict = cache / "kvm.json"
    host = f"{boot_id.read_text().strip()} {os.uname().release}"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(verdict.read_text())
        if known["host"] == host:
            return bool(known["usable"])
    found = trial()
    # A cache that cannot be written costs a trial each time, no more.
    with suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
        verdict.write_text(json.dumps({"host": host, "usable": found}))
    return found


def _openable(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR))
    except OSError:
        return False
    return True
