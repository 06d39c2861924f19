"""How full the tables of this process's BPF programs are, and what they take."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_SYS_BPF = 321
_GET_NEXT_KEY, _INFO_BY_FD = 4, 15
_INFO_SIZE = 80
_NAME = slice(24, 40)
_HASH = 1
# enum bpf_map_type (uapi/linux/bpf.h): per-CPU hashes and arrays
_PER_CPU = (5, 6, 10)
_LONGEST_KEY = 4096

_libc = ctypes.CDLL(None, use_errno=True)


class Memory(NamedTuple):
    """What one table takes of the kernel's memory, of each CPU's or in all."""

    bytes: int
    per_cpu: bool


def memory() -> dict[str, Memory]:
    """By the table's number, as bpf(2)'s fdinfo has it."""
    found = {}
    for file in Path("/proc/self/fdinfo").iterdir():
        with suppress(OSError):  # the directory that is being read
            lines = (line.partition(":") for line in file.read_text().splitlines())
            told = {name: value.strip() for name, _, value in lines}
            if "map_id" in told:
                per_cpu = int(told["map_type"]) in _PER_CPU
                found[told["map_id"]] = Memory(int(told["memlock"]), per_cpu)
    return found


def entries() -> Counter[str]:
    """By table; of hash tables alone, for others have as many from the beginning."""
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        if os.path.lexists(link) and "bpf-map" in os.readlink(link):
            fd = int(link.name)
            info = _info(fd)
            (kind,) = struct.unpack_from("=I", info)
            if kind == _HASH:
                found[info[_NAME].rstrip(b"\0").decode()] = _entries(fd)
    return found


def _info(fd: int) -> bytes:
    """struct bpf_map_info (uapi/linux/bpf.h): type, id, sizes, flags, name."""
    info = ctypes.create_string_buffer(_INFO_SIZE)
    attributes = struct.pack("=IIQ", fd, _INFO_SIZE, ctypes.addressof(info))
    assert _libc.syscall(_SYS_BPF, _INFO_BY_FD, attributes, len(attributes)) == 0
    return info.raw


def _entries(fd: int) -> int:
    key = ctypes.create_string_buffer(_LONGEST_KEY)
    following = ctypes.addressof(key)
    attributes = struct.pack("=IIQQ", fd, 0, 0, following)
    number = 0
    while _libc.syscall(_SYS_BPF, _GET_NEXT_KEY, attributes, len(attributes)) == 0:
        number += 1
        attributes = struct.pack("=IIQQ", fd, 0, following, following)
    return number
