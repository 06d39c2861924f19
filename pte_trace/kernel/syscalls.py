"""bpf(2) and perf_event_open(2), as far as BPF programs are loaded, attached and read with them.

BCC's own wrappers come with its compiler, which takes longer to load than all that is done here.
Every function raises OSError where the kernel refuses. Descriptors close on exec.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

_SYS_BPF = 321
_SYS_PERF_EVENT_OPEN = 298

# enum bpf_cmd (uapi/linux/bpf.h)
_MAP_CREATE = 0
_MAP_LOOKUP, _MAP_UPDATE = 1, 2
_PROG_LOAD = 5
_OBJ_GET_INFO_BY_FD = 15
_RAW_TRACEPOINT_OPEN = 17
_BTF_LOAD = 18
_LINK_CREATE = 28
_MAP_LOOKUP_BATCH, _MAP_LOOKUP_AND_DELETE_BATCH = 24, 25

MAP_TYPE_ARRAY = 2
PROG_TYPE_KPROBE = 2
PROG_TYPE_RAW_TRACEPOINT = 17
PROG_TYPE_TRACING = 26
TRACE_FENTRY, TRACE_FEXIT = 24, 25
TRACE_SESSION = 56

_NAME_SIZE = 16
_LOAD_SIZE = 128
# See Documentation/bpf/btf.rst in the kernel's source. A type is its name's place, its kind (and
# linkage, or number of parameters), and its size or what it refers to; then what its kind has.
_FUNCTION_TYPE = 4
_BTF_NAMES = b"\0int\0u64\0number\0function\0"
_BTF_TYPES = struct.pack(
    "=16I",
    *(_BTF_NAMES.index(b"int"), 1 << 24, 4, 32),
    *(_BTF_NAMES.index(b"u64"), 1 << 24, 8, 64),
    *(0, 13 << 24 | 1, 1, _BTF_NAMES.index(b"number"), 2),  # returns the first, takes the second
    *(_BTF_NAMES.index(b"function"), 12 << 24 | 1, 3),  # global
)
_BTF_HEADER = struct.pack(
    "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(_BTF_TYPES), len(_BTF_TYPES), len(_BTF_NAMES)
)
_LOG_SIZE = 1 << 24
# struct bpf_prog_info; its end is newer than Linux 5.10.
_PROG_INFO_SIZE = 224
_RUN_TIME_NS, _RECURSION_MISSES, _VERIFIED = 192, 208, 216
# struct bpf_link_info, and where one of many kprobes says how many runs it missed.
_LINK_INFO_SIZE, _LINK_MISSED = 64, 32

_KPROBE_PMU = Path("/sys/bus/event_source/devices/kprobe/type")
_ATTR_SIZE = 72
_CONFIG_KRETPROBE = 1
_FLAG_CLOSE_ON_EXEC = 8
_IOC_ENABLE, _IOC_SET_BPF = 0x2400, 0x40042408

_libc = ctypes.CDLL(None, use_errno=True)
Buffer = ctypes.Array[ctypes.c_char]


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _bpf(command: int, attributes: bytearray) -> int:
    """What bpf(2) returns; it may change *attributes*."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    return _checked(_libc.syscall(_SYS_BPF, command, buffer, len(attributes)))


def _buffer(data: bytes) -> Buffer:
    return ctypes.create_string_buffer(data, len(data))


def _name(name: str) -> bytes:
    return name.encode()[: _NAME_SIZE - 1]


@contextmanager
def unlimited_memory() -> Iterator[None]:
    """Lift RLIMIT_MEMLOCK meanwhile, as far as we may. Up to Linux 5.10 it bounds what is loaded.

    All that a user has loaded counts, whoever looks or traces beside us. It is put back because a
    traced command inherits it.
    """
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    except ValueError:  # how Python tells that this takes CAP_SYS_RESOURCE
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


class Table(NamedTuple):
    """A map of the kernel."""

    fd: int
    key_size: int
    value_size: int

    @classmethod
    def create(
        cls,
        table_type: int,
        key_size: int,
        value_size: int,
        entries: int,
        *,
        flags: int = 0,
        inner: int = 0,
        name: str = "",
    ) -> Table:
        """*inner*: a table as those that are in this one."""
        sizes = (table_type, key_size, value_size, entries, flags, inner, 0)
        attributes = struct.pack(f"=7I{_NAME_SIZE}s", *sizes, _name(name))
        return cls(_bpf(_MAP_CREATE, bytearray(attributes)), key_size, value_size)

    def lookup(self, key: bytes) -> bytes | None:
        value = ctypes.create_string_buffer(self.value_size)
        try:
            self._on_entry(_MAP_LOOKUP, key, value)
        except FileNotFoundError:
            return None
        return value.raw

    def update(self, key: bytes, value: bytes) -> None:
        self._on_entry(_MAP_UPDATE, key, _buffer(value))

    def _on_entry(self, command: int, key: bytes, value: Buffer) -> None:
        buffer, place = _buffer(key), ctypes.addressof(value)
        asked = struct.pack("=I4xQQQ", self.fd, ctypes.addressof(buffer), place, 0)
        _bpf(command, bytearray(asked))

    def read_all(self, keys: Buffer, values: Buffer, room: int, *, delete: bool) -> int:
        """Fill *keys* and *values*, which hold *room* entries. Returns how many there were."""
        command = _MAP_LOOKUP_AND_DELETE_BATCH if delete else _MAP_LOOKUP_BATCH
        position = ctypes.c_uint64()
        places = (ctypes.addressof(each) for each in (position, keys, values))
        attributes = bytearray(struct.pack("=QQQQIIQQ", 0, *places, room, self.fd, 0, 0))
        with suppress(FileNotFoundError):  # how the end of the table is told
            _bpf(command, attributes)
        (number,) = struct.unpack_from("=I", attributes, 32)
        return int(number)


class Account(NamedTuple):
    """The kernel's account of a program: nanoseconds run (0 while statistics are off), and runs
    that it skipped."""

    run_time_ns: int
    missed_runs: int
    verified_instructions: int


def load(
    program_type: int,
    code: bytes,
    *,
    attach_type: int = 0,
    function_id: int = 0,
    functions: tuple[int, ...] = (0,),
    name: str = "",
    log: Buffer | None = None,
) -> int:
    """Load a program, for *function_id* of the kernel's BTF. The verifier says why not in *log*.

    *functions* are the positions of the instructions at which one begins.
    """
    instructions, license_text = _buffer(code), _buffer(b"GPL\0")
    attributes = bytearray(_LOAD_SIZE)
    struct.pack_into("=II", attributes, 0, program_type, len(code) // 8)
    struct.pack_into("=Q", attributes, 8, ctypes.addressof(instructions))
    struct.pack_into("=Q", attributes, 16, ctypes.addressof(license_text))
    if log is not None:
        struct.pack_into("=IIQ", attributes, 24, 1, len(log), ctypes.addressof(log))
    struct.pack_into(f"={_NAME_SIZE}s", attributes, 48, _name(name))
    struct.pack_into("=I", attributes, 68, attach_type)
    struct.pack_into("=I", attributes, 108, function_id)
    if len(functions) == 1:
        return _bpf(_PROG_LOAD, attributes)
    kinds = _buffer(b"".join(struct.pack("=II", each, _FUNCTION_TYPE) for each in functions))
    types = _types_of_functions()
    try:
        struct.pack_into("=II", attributes, 72, types, len(kinds) // len(functions))
        struct.pack_into("=QI", attributes, 80, ctypes.addressof(kinds), len(functions))
        return _bpf(_PROG_LOAD, attributes)
    finally:
        os.close(types)


def _types_of_functions() -> int:
    """Of which types a program's functions are: all take a number and return one."""
    types = _buffer(_BTF_HEADER + _BTF_TYPES + _BTF_NAMES)
    attributes = bytearray(_LOAD_SIZE)
    struct.pack_into("=QQI", attributes, 0, ctypes.addressof(types), 0, len(types))
    return _bpf(_BTF_LOAD, attributes)


def new_log() -> Buffer:
    """Room for what the verifier says."""
    return ctypes.create_string_buffer(_LOG_SIZE)


def attach_raw_tracepoint(program: int, tracepoint: str = "") -> int:
    """Returns what keeps it attached. One for a function of the kernel names no *tracepoint*."""
    name = ctypes.create_string_buffer(tracepoint.encode()) if tracepoint else None
    place = ctypes.addressof(name) if name else 0
    return _bpf(_RAW_TRACEPOINT_OPEN, bytearray(struct.pack("=QI4x", place, program)))


def open_kprobe(function: str, *, at_return: bool = False) -> int:
    """A probe on a function of the kernel, which ends when its descriptor is closed."""
    try:
        pmu = int(_KPROBE_PMU.read_text())
    except ValueError as error:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from error
    name = ctypes.create_string_buffer(function.encode())
    attributes = bytearray(_ATTR_SIZE)
    struct.pack_into("=IIQ", attributes, 0, pmu, _ATTR_SIZE, at_return * _CONFIG_KRETPROBE)
    struct.pack_into("=Q", attributes, 56, ctypes.addressof(name))
    every_process, one_cpu, no_group = -1, 0, -1
    return _checked(
        _libc.syscall(
            _SYS_PERF_EVENT_OPEN,
            _buffer(bytes(attributes)),
            every_process,
            one_cpu,
            no_group,
            _FLAG_CLOSE_ON_EXEC,
        )
    )


def attach_kprobe(program: int, function: str, *, at_return: bool) -> int:
    """Returns what keeps it attached."""
    probe = open_kprobe(function, at_return=at_return)
    try:
        fcntl.ioctl(probe, _IOC_SET_BPF, program)
        fcntl.ioctl(probe, _IOC_ENABLE, 0)
    except OSError:
        os.close(probe)
        raise
    return probe


def attach_session(program: int, function: str) -> int:
    """Returns what keeps it attached, to both ends of each call of *function*."""
    name = ctypes.create_string_buffer(function.encode())
    names = (ctypes.c_uint64 * 1)(ctypes.addressof(name))
    no_flags, no_addresses, no_cookies = 0, 0, 0
    attributes = struct.pack("=IIII", program, 0, TRACE_SESSION, no_flags)
    attributes += struct.pack(
        "=IIQQQ", no_flags, len(names), ctypes.addressof(names), no_addresses, no_cookies
    )
    return _bpf(_LINK_CREATE, bytearray(attributes))


def calls_missed(session: int) -> int:
    """Calls for which what keeps a *session* attached had no room."""
    info = ctypes.create_string_buffer(_LINK_INFO_SIZE)
    asked = struct.pack("=iIQ", session, _LINK_INFO_SIZE, ctypes.addressof(info))
    _bpf(_OBJ_GET_INFO_BY_FD, bytearray(asked))
    (missed,) = struct.unpack_from("=Q", info, _LINK_MISSED)
    return int(missed)


def account(program: int) -> Account:
    info = ctypes.create_string_buffer(_PROG_INFO_SIZE)
    asked = struct.pack("=iIQ", program, _PROG_INFO_SIZE, ctypes.addressof(info))
    _bpf(_OBJ_GET_INFO_BY_FD, bytearray(asked))
    (run_time_ns,) = struct.unpack_from("=Q", info, _RUN_TIME_NS)
    (missed,) = struct.unpack_from("=Q", info, _RECURSION_MISSES)
    (verified,) = struct.unpack_from("=I", info, _VERIFIED)
    return Account(run_time_ns, missed, verified)
