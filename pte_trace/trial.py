"""Find out what this kernel allows by doing it: tiny programs, loaded and closed again.

These are the few bpf(2) and perf_event_open(2) calls BCC has no way to make
without compiling a program first, which takes seconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import struct
from contextlib import suppress
from pathlib import Path

_SYS_BPF = 321
_SYS_PERF_EVENT_OPEN = 298

_MAP_CREATE = 0
_PROG_LOAD = 5
_RAW_TRACEPOINT_OPEN = 17

_MAP_TYPE_ARRAY = 2
_PROG_TYPE_KPROBE = 2
_PROG_TYPE_TRACING = 26
_TRACE_FEXIT = 25

_RETURN_ZERO = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
_CALL_PROBE_READ_KERNEL = b"".join(
    struct.pack("<BBhi", *instruction)
    for instruction in (
        (0xBF, 0xA1, 0, 0),  # r1 = r10
        (0x07, 0x01, 0, -8),  # r1 += -8
        (0xB7, 0x02, 0, 8),  # r2 = 8
        (0xB7, 0x03, 0, 0),  # r3 = 0
        (0x85, 0x00, 0, 113),  # call bpf_probe_read_kernel
    )
)

_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")
_ATTR_SIZE = 72
_FLAG_CLOSE_ON_EXEC = 8

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    """bpf(2). Returns a file descriptor; raises OSError."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    fd = int(_libc.syscall(_SYS_BPF, command, buffer, len(attributes)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def _load(program_type: int, code: bytes, attach_type: int = 0, function_id: int = 0) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"GPL")
    attributes = bytearray(128)
    struct.pack_into("<II", attributes, 0, program_type, len(code) // 8)
    struct.pack_into("<Q", attributes, 8, ctypes.addressof(instructions))
    struct.pack_into("<Q", attributes, 16, ctypes.addressof(license_text))
    struct.pack_into("<I", attributes, 68, attach_type)
    struct.pack_into("<I", attributes, 108, function_id)
    return _bpf(_PROG_LOAD, bytes(attributes))


def _succeeds(*fds: int) -> bool:
    for fd in fds:
        os.close(fd)
    return True


def fentry(function_id: int) -> bool | None:
    """Whether a BPF trampoline can be put on the exit of the function with this BTF id.

    None where we may not try (EPERM is also what a locked-down kernel answers).
    """
    try:
        program = _load(_PROG_TYPE_TRACING, _RETURN_ZERO, _TRACE_FEXIT, function_id)
    except OSError as error:
        return None if error.errno in (errno.EPERM, errno.EACCES) else False
    try:
        return _succeeds(_bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI4x", 0, program)))
    except OSError as error:
        return None if error.errno == errno.EPERM else False
    finally:
        os.close(program)


def kprobe(function: str) -> bool | None:
    """Whether a kprobe can be put on *function*. None where we may not try."""
    try:
        pmu = int(_KPROBE_PMU.read_text())
    except (OSError, ValueError):
        return False
    name = ctypes.create_string_buffer(function.encode())
    attributes = bytearray(_ATTR_SIZE)
    struct.pack_into("<II", attributes, 0, pmu, _ATTR_SIZE)
    struct.pack_into("<Q", attributes, 56, ctypes.addressof(name))
    buffer = ctypes.create_string_buffer(bytes(attributes), _ATTR_SIZE)
    fd = int(_libc.syscall(_SYS_PERF_EVENT_OPEN, buffer, -1, 0, -1, _FLAG_CLOSE_ON_EXEC))
    if fd >= 0:
        return _succeeds(fd)
    return None if ctypes.get_errno() in (errno.EPERM, errno.EACCES) else False


def kernel_memory_readable() -> bool | None:
    """Whether a program that calls bpf_probe_read_kernel() is accepted.

    None where no BPF program may be loaded at all; False is a kernel locked
    down to confidentiality (LOCKDOWN_BPF_READ_KERNEL).
    """
    program = None
    with suppress(OSError):
        program = _load(_PROG_TYPE_KPROBE, _RETURN_ZERO)
    if program is None:
        return None
    os.close(program)
    try:
        return _succeeds(_load(_PROG_TYPE_KPROBE, _CALL_PROBE_READ_KERNEL + _RETURN_ZERO))
    except OSError:
        return False


def bpf_errno() -> int | None:
    """The error number with which this kernel refuses bpf(2), None where it does not."""
    try:
        os.close(_load(_PROG_TYPE_KPROBE, _RETURN_ZERO))
    except OSError as error:
        return error.errno
    return None


def tables_are_locked_memory() -> bool | None:
    """Whether RLIMIT_MEMLOCK bounds the programs' tables, as up to Linux 5.10.

    None where no table may be made at all.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not _table_can_be_made():
        return None
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, hard))
    try:
        return not _table_can_be_made()
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (soft, hard))


def _table_can_be_made() -> bool:
    key_size, value_size, entries = 4, 8, 1
    attributes = struct.pack("=5I", _MAP_TYPE_ARRAY, key_size, value_size, entries, 0)
    try:
        return _succeeds(_bpf(_MAP_CREATE, attributes))
    except OSError:
        return False
