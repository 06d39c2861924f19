"""What is asked for of a process's cgroup, as the programs take it (bpf/cgroups.h)."""

from __future__ import annotations

import os

from pte_trace.counted.packed import LAYOUT
from pte_trace.counted.where import directory_of_unit
from pte_trace.filters import Filters

# What comes before the id of a container in the name of its monitor's cgroup.
_MONITOR = b"-conmon-"


def packed(filters: Filters) -> bytes:
    """A ``struct wanted_cgroups``. Raises OSError where the cgroup is gone."""
    ffi = LAYOUT.ffi
    wanted = ffi.new("struct wanted_cgroups *")
    wanted.monitor = int.from_bytes(_MONITOR, "little")
    if filters.cgroup is not None:
        wanted.all |= ffi.integer_const("WANT_DIRECTORY")
        # The kernel's own id of it: kernfs gives it for an inode number.
        wanted.id = os.stat(filters.cgroup).st_ino
    if filters.unit is not None:
        wanted.all |= ffi.integer_const("WANT_UNIT")
        name = os.fsencode(directory_of_unit(filters.unit)) + b"\0"
        _fill(wanted.unit, wanted.unit_mask, name)
    if filters.container is not None:
        wanted.all |= ffi.integer_const("WANT_CONTAINER")
        _fill(wanted.container, wanted.container_mask, filters.container.encode())
    return bytes(ffi.buffer(wanted))


def _fill(words: object, mask: object, letters: bytes) -> None:
    LAYOUT.ffi.memmove(words, letters, len(letters))
    LAYOUT.ffi.memmove(mask, b"\xff" * len(letters), len(letters))
