"""Load, attach and read the BPF programs."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from pte_trace import image, syscalls
from pte_trace.btf import BTF
from pte_trace.compiler import with_tables
from pte_trace.effort import Effort
from pte_trace.errors import HostError
from pte_trace.filters import Filters
from pte_trace.image import Image, Program
from pte_trace.plan import Plan, any_kprobe
from pte_trace.program import Capacity, text
from pte_trace.records import LAYOUT, TRACING
from pte_trace.syscalls import Account, Table

_CALLS_SIZE = 8
_LEAST_REAL_TIME_PRIORITY = 1
# Where what is in a table of records (bpf/vma.h): two that count those behind them, then those.
_HEADS = 2
# Tables that take turns in what the programs see as one (bpf/vma.h).
_ACTIVE = "active_"
_RECORDS, _FILES = ("records_a", "records_b"), ("files_a", "files_b")
_FIRST = struct.pack("=I", 0)
_TRACING = {"fentry": syscalls.TRACE_FENTRY, "fexit": syscalls.TRACE_FEXIT}
_PROGRAM_TYPES = {
    "fentry": syscalls.PROG_TYPE_TRACING,
    "fexit": syscalls.PROG_TYPE_TRACING,
    "kprobe": syscalls.PROG_TYPE_KPROBE,
    "kretprobe": syscalls.PROG_TYPE_KPROBE,
    "raw_tracepoint": syscalls.PROG_TYPE_RAW_TRACEPOINT,
}
_Result = TypeVar("_Result")


def bcc_version() -> tuple[str | None, str | None]:
    """The BCC module's version, and where another package of that name is in its place.

    Both None where there is neither. Found without importing it.
    """
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        return None, None
    directory = Path(spec.origin).parent
    if not (directory / "libbcc.py").exists():
        return None, str(directory)
    try:
        found = re.search(r"'([^']+)'", (directory / "version.py").read_text())
    except OSError:
        found = None
    return (found.group(1) if found else "unknown"), None


class RawRecords(NamedTuple):
    """Entries of a table: packed structs, as many keys as values."""

    number: int
    keys: bytes
    values: bytes


class Reading(NamedTuple):
    """What was counted, as packed ``struct vma_record``: in VMAs, and what found no room there.

    That is counted by process; what found no room there either is nobody's.
    """

    vmas: bytes
    remainders: bytes


def _untouched(size: int) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * size).from_buffer(mmap.mmap(-1, size))


class _Room:
    """Room in this process for all entries that a table of the kernel can have.

    It takes memory only as far as it was ever used.
    """

    def __init__(self, key_size: int, value_size: int, entries: int) -> None:
        self.entries = entries
        self.keys = _untouched(key_size * entries)
        self.values = _untouched(value_size * entries)
        self._sizes = (key_size, value_size)

    def taken(self, number: int) -> tuple[bytes, bytes]:
        """The keys and the values of the first *number* entries."""
        key_size, value_size = self._sizes
        return (
            ctypes.string_at(self.keys, number * key_size),
            ctypes.string_at(self.values, number * value_size),
        )


@contextmanager
def _mapped(table: int, first: int, number: int) -> Iterator[memoryview]:
    """Records in an array, until they are left: what is mapped counts as memory of this process."""
    start, size = first * LAYOUT.record_size, number * LAYOUT.record_size
    before = start % mmap.PAGESIZE
    # A byte at least: nothing cannot be mapped.
    with (
        mmap.mmap(table, before + max(size, 1), offset=start - before) as pages,
        memoryview(pages) as whole,
        whole[before : before + size] as part,
    ):
        yield part


@contextmanager
def _first_in_line() -> Iterator[None]:
    """Let no ordinary task have this thread's CPU meanwhile, where we may ask for that.

    What kprobes would run on a CPU is skipped while a thread is in a system call on a table there
    (bpf_disable_instrumentation()). Were it preempted in it, other tasks' events would be missed.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_LEAST_REAL_TIME_PRIORITY))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


class _Attached(NamedTuple):
    program: int
    link: int

    def close(self) -> None:
        os.close(self.link)
        os.close(self.program)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Tell of an OSError meanwhile as a HostError."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise HostError(
            f"The kernel refused {what}: {reason}.", "Run `pte-trace doctor`."
        ) from error


class Driver:
    """The programs in the kernel, from load to close.

    Nothing is counted before `read` was called once. Use as a context manager.
    """

    def __init__(
        self, plan: Plan, filters: Filters, capacity: Capacity, effort: Effort, btf: BTF
    ) -> None:
        """Compile, load and attach. Raises HostError."""
        if plan.refusal:
            raise HostError(plan.refusal.why, plan.refusal.mend)
        self._capacity = capacity
        self._reading = _first_in_line if any_kprobe(plan.functions) else nullcontext
        self._active: int | None = None
        self._tables: dict[str, Table] = {}
        self._attached: dict[tuple[str, str], _Attached] = {}
        self._tracing: mmap.mmap | None = None
        program = text(plan, filters, capacity, effort, btf).encode()
        made = image.of(program, bcc_version()[0])
        try:
            with syscalls.unlimited_memory():
                self._make_tables(made)
                # Returns first: no call is saved whose return is not told.
                for each in sorted(made.programs, key=lambda each: not each.at_return):
                    self._attach(each, btf)
            self._show_the_direct_map()
            if filters.cgroup is not None:
                self._show_the_cgroup(filters.cgroup)
        except BaseException:
            self.close()
            raise
        self._file_room = _Room(LAYOUT.file_key_size, LAYOUT.file_size, capacity.files)

    def _make_tables(self, made: Image) -> None:
        # A table of tables is made after the first of those that take turns in it.
        for shape in sorted(made.tables, key=lambda shape: shape.name.startswith(_ACTIVE)):
            name, *numbers, flags = shape
            inner = self._tables.get(name.replace(_ACTIVE, "") + "_a")
            with _refused(f"a table of its size ({name})"):
                self._tables[name] = Table.create(
                    *numbers, flags=flags, inner=inner.fd if inner else 0, name=name
                )
            if name == "followed":
                # A byte for each process, which the programs set as well.
                self._tracing = mmap.mmap(self._tables[name].fd, shape.value_size * shape.entries)
        self._descriptors = {
            position: self._tables[shape.name].fd for position, shape in enumerate(made.tables)
        }

    def _attach(self, program: Program, btf: BTF) -> None:
        fd = self._load(program, btf)
        with _refused(f"its program for {program.function}"):
            try:
                if program.kind == "raw_tracepoint":
                    link = syscalls.attach_raw_tracepoint(fd, program.function)
                elif program.kind in _TRACING:
                    link = syscalls.attach_raw_tracepoint(fd)
                else:
                    link = syscalls.attach_kprobe(fd, program.function, at_return=program.at_return)
            except OSError:
                os.close(fd)
                raise
        self._attached[program.kind, program.function] = _Attached(fd, link)

    def _load(self, program: Program, btf: BTF) -> int:
        code = with_tables(program.code, self._descriptors)
        function_id = btf.function_id(program.function) if program.kind in _TRACING else None

        def load(log: syscalls.Buffer | None) -> int:
            return syscalls.load(
                _PROGRAM_TYPES[program.kind],
                code,
                attach_type=_TRACING.get(program.kind, 0),
                function_id=function_id or 0,
                functions=program.functions,
                name=program.function,
                log=log,
            )

        with suppress(OSError):
            return load(None)
        log = syscalls.new_log()
        try:
            return load(log)
        except OSError as error:
            said = log.value.decode("utf-8", "replace")
            if os.environ.get("PTE_TRACE_DEBUG"):
                print(said, file=sys.stderr)
            raise image.failure(said or str(error)) from error

    def _show_the_cgroup(self, path: Path) -> None:
        with _refused(f"the cgroup {path}"):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._update("cgroups", _FIRST, struct.pack("=i", fd))
        finally:
            os.close(fd)

    def _show_the_direct_map(self) -> None:
        """Take the write fault from which the programs learn where page tables are.

        See learn_direct_map() in bpf/inspection.h. Writing to a page that was only read is
        such a fault on every kernel: it is the shared zero page.
        """
        if "direct_map" not in self._tables:
            return
        with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
            page[0] = page[0] + 1
        if not any(self._lookup("direct_map", _FIRST) or b""):
            raise HostError(
                "The place of this kernel's page tables could not be found out.",
                "Trace without looking at them: --inspect none",
            )
        # It has nothing more to do, and each write-protect fault would run it.
        if learner := self._attached.pop(("fentry", "do_wp_page"), None):
            learner.close()

    def _on_table(self, call: Callable[[], _Result]) -> _Result:
        """What a system call on a table returns. Raises HostError."""
        with self._reading(), _refused("an access to its tables"):
            return call()

    def follow(self, tgid: int, tracing: int) -> None:
        """Set how a process is traced: a value of ``enum tracing``."""
        assert self._tracing is not None
        self._tracing[tgid] = tracing

    def is_followed(self, tgid: int) -> bool:
        assert self._tracing is not None
        return self._tracing[tgid] != TRACING["never"]

    def _update(self, table: str, key: bytes, value: bytes) -> None:
        self._on_table(lambda: self._tables[table].update(key, value))

    def _lookup(self, table: str, key: bytes) -> bytes | None:
        return self._on_table(lambda: self._tables[table].lookup(key))

    def read(self) -> Reading:
        """Take what was counted since the last call. Raises HostError.

        The tables are swapped first. A swap returns when no program uses the old
        one any more (see bpf/vma.h), so nothing is counted twice and nothing is lost.
        """
        idle = self._active
        following = 0 if idle is None else 1 - idle
        self._empty(self._tables[_FILES[following]], self._file_room)
        for active, tables in (("active_files", _FILES), ("active_records", _RECORDS)):
            fd = self._tables[tables[following]].fd
            self._update(active, _FIRST, struct.pack("=I", fd))
        self._active = following
        return Reading(b"", b"") if idle is None else self._read(self._tables[_RECORDS[idle]].fd)

    def _read(self, table: int) -> Reading:
        """Nothing is zeroed before all is read: it would be another reading's, or nobody's."""
        records, remainders = self._capacity.records, self._capacity.remainders
        with _mapped(table, 0, _HEADS) as in_heads:
            heads = bytes(in_heads)
            claims = (head.claims for head in LAYOUT.ffi.from_buffer("struct vma_record[]", heads))
            vmas, processes = map(min, claims, (records, remainders))
            with (
                _mapped(table, _HEADS, vmas) as in_vmas,
                _mapped(table, _HEADS + records, processes) as without_room,
            ):
                nobodys = heads[-LAYOUT.record_size :]
                reading = Reading(bytes(in_vmas), bytes(without_room) + nobodys)
                for part in (in_heads, in_vmas, without_room):
                    part[:] = bytes(len(part))
        return reading

    def _taken(self, table: Table, room: _Room) -> RawRecords:
        number = self._empty(table, room)
        return RawRecords(number, *room.taken(number))

    def _empty(self, table: Table, room: _Room) -> int:
        """Move what is in *table* to *room*. Returns the number of entries."""
        return self._all(table, room, delete=True)

    def _all(self, table: Table, room: _Room, *, delete: bool = False) -> int:
        return self._on_table(
            lambda: table.read_all(room.keys, room.values, room.entries, delete=delete)
        )

    def code(self) -> RawRecords:
        """The packed structs code_key and code_record noted since the last call."""
        room = _Room(LAYOUT.code_key_size, LAYOUT.code_size, self._capacity.records)
        return self._taken(self._tables["code"], room)

    def call_sites(self) -> RawRecords:
        """All packed ``struct call_site`` seen so far, and the calls of each (u64)."""
        room = _Room(LAYOUT.call_site_size, _CALLS_SIZE, self._capacity.records)
        number = self._all(self._tables["call_sites"], room)
        return RawRecords(number, *room.taken(number))

    def file(self, key: bytes) -> bytes | None:
        """The packed ``struct file_record`` of a ``struct file_key`` in the last reading."""
        assert self._active is not None
        for index in (1 - self._active, self._active):
            found = self._lookup(_FILES[index], key)
            if found is not None:
                return found
        return None

    def health(self) -> bytes:
        """The packed ``struct health_record``."""
        value = self._lookup("health", _FIRST)
        assert value is not None
        return value

    def programs(self) -> dict[str, Account]:
        """The kernel's account of each program, by kind and function."""
        with _refused("an account of its programs"):
            return {
                f"{kind}/{function}": syscalls.account(attached.program)
                for (kind, function), attached in self._attached.items()
            }

    def close(self) -> None:
        """Detach and unload everything. Safe to call twice."""
        while self._attached:
            self._attached.popitem()[1].close()
        if self._tracing is not None:
            self._tracing.close()
            self._tracing = None
        while self._tables:
            os.close(self._tables.popitem()[1].fd)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
