"""Load, attach and read the BPF programs."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import NamedTuple, TypeVar

from pte_trace.counted.packed import LAYOUT, TRACING, Packed
from pte_trace.effort import Effort
from pte_trace.errors import HostError
from pte_trace.filters import Filters
from pte_trace.host.plan import Plan, any_probe
from pte_trace.kernel import syscalls
from pte_trace.kernel.btf import BTF
from pte_trace.kernel.syscalls import Account, Table
from pte_trace.programs import image
from pte_trace.programs import wanted as wanted_cgroups
from pte_trace.programs.compiler import with_tables
from pte_trace.programs.image import Image, Program
from pte_trace.programs.program import Capacity, text

_NUMBER_SIZE = 8
_LEAST_REAL_TIME_PRIORITY = 1
# What is where in a table of records (bpf/vma.h): heads that count what was given away, then that.
_RECORDS_HEAD, _REMAINDERS_HEAD, _TIMINGS_HEAD, _HEADS = range(4)
# Tables that take turns in what the programs see as one (bpf/vma.h).
_ACTIVE = "active_"
_RECORDS, _FILES = ("records_a", "records_b"), ("files_a", "files_b")
# Which of them goes with which table of records, that says itself.
_STACKS = ("stacks_a", "stacks_b")
_FIRST = struct.pack("=I", 0)
_TRACING = {
    "fentry": syscalls.TRACE_FENTRY,
    "fexit": syscalls.TRACE_FEXIT,
    "learner": syscalls.TRACE_FENTRY,
}
_ATTACH_TYPES = {**_TRACING, "session": syscalls.TRACE_SESSION}
_PROGRAM_TYPES = {
    "fentry": syscalls.PROG_TYPE_TRACING,
    "fexit": syscalls.PROG_TYPE_TRACING,
    "learner": syscalls.PROG_TYPE_TRACING,
    "session": syscalls.PROG_TYPE_KPROBE,
    "kprobe": syscalls.PROG_TYPE_KPROBE,
    "kretprobe": syscalls.PROG_TYPE_KPROBE,
    "raw_tracepoint": syscalls.PROG_TYPE_RAW_TRACEPOINT,
}
_Result = TypeVar("_Result")


class RawRecords(NamedTuple):
    """Entries of a table: packed structs, as many keys as values."""

    number: int
    keys: bytes
    values: bytes


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
def _mapped(table: Table, first: int, number: int) -> Iterator[memoryview]:
    """Elements of an array, until they are left: what is mapped counts as memory of this process.

    Once they are left without an exception they are zero.
    """
    start, size = first * table.value_size, number * table.value_size
    before = start % mmap.PAGESIZE
    # A byte at least: nothing cannot be mapped.
    pages = mmap.mmap(table.fd, before + max(size, 1), offset=start - before)
    whole = memoryview(pages)
    part = whole[before : before + size]
    try:
        yield part
        if size:
            ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(part)), 0, size)
    finally:
        with suppress(BufferError):  # the frames of an exception have it still
            part.release()
            whole.release()
            pages.close()


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


def _account(kind: str, attached: _Attached) -> Account:
    """With the calls that a session had no room for."""
    account = syscalls.account(attached.program)
    if kind == "session":
        missed = account.missed_runs + syscalls.calls_missed(attached.link)
        account = account._replace(missed_runs=missed)
    return account


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
        self._reading = _first_in_line if any_probe(plan.functions) else nullcontext
        self._active: int | None = None
        self._names: dict[int, tuple[dict[bytes, int], memoryview]] = {}
        self._tables: dict[str, Table] = {}
        self._attached: dict[tuple[str, str], _Attached] = {}
        self._tracing: mmap.mmap | None = None
        program = text(plan, filters, capacity, effort, btf).encode()
        made = image.of(program, image.bcc_version()[0])
        try:
            with syscalls.unlimited_memory():
                self._make_tables(made)
                if filters.by_cgroup:
                    self._say_which_cgroups(filters)
                # Returns first: no call is saved whose return is not told.
                for each in sorted(made.programs, key=lambda each: not each.at_return):
                    self._attach(each, btf)
            self._show_the_memory_map()
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
                elif program.kind == "session":
                    link = syscalls.attach_session(fd, program.function)
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
                attach_type=_ATTACH_TYPES.get(program.kind, 0),
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

    def _say_which_cgroups(self, filters: Filters) -> None:
        """Before the programs run: what they find out of a cgroup they remember."""
        with _refused(f"the cgroup {filters.cgroup}"):
            wanted = wanted_cgroups.packed(filters)
        self._update("wanted_cgroups", _FIRST, wanted)

    def _show_the_memory_map(self) -> None:
        """Take the write fault from which the programs learn where page tables are.

        See learn_memory_map() in bpf/pagetable.h. Writing to a page that was only read is
        such a fault on every kernel: it is the shared zero page.
        """
        with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
            page[0] = page[0] + 1
        found = self._lookup("memory_map", _FIRST)
        if not found or not any(found[:_NUMBER_SIZE]):
            raise HostError(
                "The place of this kernel's page tables could not be found out.",
                "Report this kernel's release at the project's issue tracker.",
            )
        # It has nothing more to do, and each write-protect fault would run it.
        if learner := self._attached.pop(("learner", "do_wp_page"), None):
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

    @contextmanager
    def reading(self) -> Iterator[Packed]:
        """Lend what was counted since the last call, for as long as it is not left.

        The tables are swapped first. A swap returns when no program uses the old
        one any more (see bpf/vma.h), so nothing is counted twice and nothing is lost. What was
        lent is zeroed when it is left; after an exception it stays, and comes with the reading
        after the next. Raises HostError.
        """
        idle = self._active
        following = 0 if idle is None else 1 - idle
        self._empty(self._tables[_FILES[following]], self._file_room)
        for active, tables in (("active_files", _FILES), ("active_records", _RECORDS)):
            fd = self._tables[tables[following]].fd
            self._update(active, _FIRST, struct.pack("=I", fd))
        self._active = following
        self._names = {}
        if idle is None:
            self._tell_its_half(1)
            yield Packed(b"")
            return
        with self._lent(idle) as packed:
            yield packed
        self._tell_its_half(idle)

    def _tell_its_half(self, which: int) -> None:
        """Which half of `timings` goes with a table, in the head for it."""
        with mmap.mmap(self._tables[_RECORDS[which]].fd, _HEADS * LAYOUT.record_size) as pages:
            heads = LAYOUT.ffi.from_buffer("struct vma_record[]", pages)
            heads[_TIMINGS_HEAD].kind = which
            LAYOUT.ffi.release(heads)

    @contextmanager
    def _lent(self, idle: int) -> Iterator[Packed]:
        room, table = self._capacity, self._tables[_RECORDS[idle]]
        first_remainder = _HEADS + room.records
        with _mapped(table, 0, _HEADS) as heads:
            # A copy: what is taken of them must not keep the memory that is given back.
            claims = [
                head.claims for head in LAYOUT.ffi.from_buffer("struct vma_record[]", bytes(heads))
            ]
            vmas, remainders, timings = map(
                min, claims, (room.records, room.remainders, room.timings)
            )
            nobodys = bytes(heads[_REMAINDERS_HEAD * LAYOUT.record_size :][: LAYOUT.record_size])
            with (
                _mapped(table, _HEADS, vmas) as in_vmas,
                _mapped(table, first_remainder, remainders) as without_room,
                _mapped(self._tables["timings"], idle * (1 + room.timings) + 1, timings) as timed,
            ):
                yield Packed(
                    in_vmas,
                    without_room,
                    nobodys,
                    timed,
                    first_vma=_HEADS,
                    first_remainder=first_remainder,
                    nobodys_place=_REMAINDERS_HEAD,
                )

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

    def stacks(self) -> RawRecords:
        """All packed ``struct call_site`` of the reading that is lent, and how often each (u64).

        They are handed out once.
        """
        assert self._active is not None
        room = _Room(LAYOUT.call_site_size, _NUMBER_SIZE, self._capacity.records)
        return self._taken(self._tables[_STACKS[1 - self._active]], room)

    def file(self, key: bytes) -> bytes | None:
        """The packed ``struct file_record`` of a ``struct file_key`` in the last reading.

        All that there are come with the first one asked for, in one call for each table.
        """
        assert self._active is not None
        for index in (1 - self._active, self._active):
            if index not in self._names:
                self._names[index] = self._all_names(self._tables[_FILES[index]])
            place_of, names = self._names[index]
            if key in place_of:
                return bytes(names[place_of[key] :][: LAYOUT.file_size])
        return None

    def _all_names(self, table: Table) -> tuple[dict[bytes, int], memoryview]:
        """Where each is among them, and all of them."""
        number = self._all(table, self._file_room)
        keys, names = self._file_room.taken(number)
        size = LAYOUT.file_key_size
        place_of = {keys[n * size : (n + 1) * size]: n * LAYOUT.file_size for n in range(number)}
        return place_of, memoryview(names)

    def health(self) -> bytes:
        """The packed ``struct health_record``."""
        value = self._lookup("health", _FIRST)
        assert value is not None
        return value

    def programs(self) -> dict[str, Account]:
        """The kernel's account of each program, by kind and function."""
        with _refused("an account of its programs"):
            return {
                f"{kind}/{function}": _account(kind, attached)
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
