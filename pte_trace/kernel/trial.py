"""Find out what this kernel allows by doing it: tiny programs, loaded and closed again."""

from __future__ import annotations

import errno
import os
import resource
import struct
from contextlib import suppress

from pte_trace.kernel import syscalls
from pte_trace.kernel.syscalls import (
    PROG_TYPE_KPROBE,
    PROG_TYPE_TRACING,
    TRACE_FEXIT,
    TRACE_SESSION,
    Table,
)

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


# Calls the function of the kernel with r1 = 0 and r2 = a type; both are filled in.
_TYPE_AT, _FUNCTION_AT = 12, 20
_CALL_RDONLY_CAST = b"".join(
    struct.pack("<BBhi", *instruction)
    for instruction in (
        (0xB7, 0x01, 0, 0),  # r1 = 0
        (0xB7, 0x02, 0, 0),  # r2 = the type
        (0x85, 0x20, 0, 0),  # call the function of the kernel
    )
)


def _succeeds(*fds: int) -> bool:
    for fd in fds:
        os.close(fd)
    return True


def fentry(function_id: int) -> bool | None:
    """Whether a BPF trampoline can be put on the exit of the function with this BTF id.

    None where we may not try (EPERM is also what a locked-down kernel answers).
    """
    try:
        program = syscalls.load(
            PROG_TYPE_TRACING, _RETURN_ZERO, attach_type=TRACE_FEXIT, function_id=function_id
        )
    except OSError as error:
        return None if error.errno in (errno.EPERM, errno.EACCES) else False
    try:
        return _succeeds(syscalls.attach_raw_tracepoint(program))
    except OSError as error:
        return None if error.errno == errno.EPERM else False
    finally:
        os.close(program)


def kprobe(function: str) -> bool | None:
    """Whether a kprobe can be put on *function*. None where we may not try."""
    try:
        return _succeeds(syscalls.open_kprobe(function))
    except OSError as error:
        return None if error.errno in (errno.EPERM, errno.EACCES) else False


def session(function: str) -> bool | None:
    """Whether one program can be put on both ends of *function*. None where we may not try."""
    try:
        program = syscalls.load(PROG_TYPE_KPROBE, _RETURN_ZERO, attach_type=TRACE_SESSION)
    except OSError as error:
        return None if error.errno in (errno.EPERM, errno.EACCES) else False
    try:
        return _succeeds(syscalls.attach_session(program, function))
    except OSError as error:
        return None if error.errno in (errno.EPERM, errno.EACCES) else False
    finally:
        os.close(program)


def casts(function_id: int, type_id: int) -> bool:
    """Whether a probe's program may call the function (bpf_rdonly_cast()) for the type."""
    code = bytearray(_CALL_RDONLY_CAST + _RETURN_ZERO)
    struct.pack_into("<i", code, _TYPE_AT, type_id)
    struct.pack_into("<i", code, _FUNCTION_AT, function_id)
    try:
        return _succeeds(syscalls.load(PROG_TYPE_KPROBE, bytes(code)))
    except OSError:
        return False


def kernel_memory_readable() -> bool | None:
    """Whether a program that calls bpf_probe_read_kernel() is accepted.

    None where no BPF program may be loaded at all; False is a kernel locked
    down to confidentiality (LOCKDOWN_BPF_READ_KERNEL).
    """
    program = None
    with suppress(OSError):
        program = syscalls.load(PROG_TYPE_KPROBE, _RETURN_ZERO)
    if program is None:
        return None
    os.close(program)
    try:
        return _succeeds(syscalls.load(PROG_TYPE_KPROBE, _CALL_PROBE_READ_KERNEL + _RETURN_ZERO))
    except OSError:
        return False


def bpf_errno() -> int | None:
    """The error number with which this kernel refuses bpf(2), None where it does not."""
    try:
        os.close(syscalls.load(PROG_TYPE_KPROBE, _RETURN_ZERO))
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
    try:
        return _succeeds(Table.create(syscalls.MAP_TYPE_ARRAY, 4, 8, 1).fd)
    except OSError:
        return False
