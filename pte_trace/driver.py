"""Load, attach and read the BPF programs. The only module that knows BCC exists."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pte_trace.btf import BTF
from pte_trace.effort import Effort
from pte_trace.errors import HostError
from pte_trace.filters import Filters
from pte_trace.plan import How, Plan, any_kprobe
from pte_trace.program import Capacity, kernel_tree, text
from pte_trace.records import LAYOUT

_CFLAGS = ["-Wno-duplicate-decl-specifier", "-Wno-macro-redefined"]
# struct bpf_prog_info (uapi/linux/bpf.h); its end is newer than Linux 5.10.
_PROG_INFO_SIZE = 224
_RUN_TIME_NS, _RECURSION_MISSES, _VERIFIED = 192, 208, 216
_CALLS_SIZE = 8
_LEAST_REAL_TIME_PRIORITY = 1
# Where what is in a table of records (bpf/vma.h): two that count those behind them, then those.
_HEADS = 2
# Newer versions of BCC name the module as well.
_LEARNER = (b"kfunc__do_wp_page", b"kfunc__vmlinux__do_wp_page")
_WALKER = (
    b"kretfunc__change_protection",
    b"kretfunc__vmlinux__change_protection",
    b"leave_change_protection",
)


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


def _cut(table: int, first: int, number: int) -> bytes:
    """What is in an array of records from *first* on, which is zero afterwards.

    The array is mapped for that time: what is mapped counts as memory of this process.
    """
    start, size = first * LAYOUT.record_size, number * LAYOUT.record_size
    if not size:
        return b""
    before = start % mmap.PAGESIZE
    with mmap.mmap(table, before + size, offset=start - before) as part:
        records = part[before:]
        part[before:] = bytes(size)
    return records


class ProgramInfo(NamedTuple):
    """A loaded program's own account: nanoseconds run (0 while statistics are off), runs missed."""

    name: str
    run_time_ns: int
    missed_runs: int
    verified_instructions: int


@contextmanager
def _diagnostics() -> Iterator[list[str]]:
    """Collect what clang and the verifier print to the C level's stderr."""
    lines: list[str] = []
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.memfd_create("diagnostics"), "w+b") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            sink.seek(0)
            lines += sink.read().decode("utf-8", "replace").splitlines()


@contextmanager
def kernel_source() -> Iterator[None]:
    """Point BCC at bpf/kernel/ instead of this kernel's headers.

    That is its whole environment meanwhile: BCC and clang obey variables that could name other
    files, and root's may be those of whoever called sudo.
    """
    before = dict(os.environ)
    os.environ.clear()
    os.environ["BCC_KERNEL_SOURCE"] = kernel_tree()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


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


_Made = TypeVar("_Made")


def _interruptibly(make: Callable[[], _Made]) -> _Made:
    """What *make* returns or raises.

    It is called in a thread of its own: the compiler keeps its thread for seconds, and Python
    answers a signal in the main thread only. One that ends us leaves the thread behind.
    """
    made: Future[_Made] = Future()

    def call() -> None:
        try:
            made.set_result(make())
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return made.result()


def _failure(error: Exception, lines: list[str]) -> HostError:
    said = next((line for line in reversed(lines) if line.strip()), str(error) or repr(error))
    return HostError(
        f"The BPF programs could not be loaded: {said.strip()}",
        "Run `pte-trace doctor`; with PTE_TRACE_DEBUG=1 all that BCC printed is shown.",
    )


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
        from bcc import BPF
        from bcc.libbcc import lib

        self._lib: Any = lib
        self._capacity = capacity
        self._reading = _first_in_line if any_kprobe(plan.functions) else nullcontext
        program = text(plan, filters, capacity, effort, btf).encode()
        lines: list[str] = []
        try:
            with kernel_source(), _diagnostics() as lines:
                self._bpf: Any = _interruptibly(lambda: BPF(text=program, cflags=_CFLAGS))
                self._attach_kprobes(plan)
                self._let_the_walker_go_on()
            # What the compiler leaves behind.
            ctypes.CDLL(None).malloc_trim(0)
        except Exception as error:  # BCC raises nothing more special
            raise _failure(error, lines) from error
        finally:
            if os.environ.get("PTE_TRACE_DEBUG"):
                print(*lines, sep="\n", file=sys.stderr)
        self._records = [self._fd("records_a"), self._fd("records_b")]
        self._files = [self._fd("files_a"), self._fd("files_b")]
        self._active: int | None = None
        self._file_room = _Room(LAYOUT.file_key_size, LAYOUT.file_size, capacity.files)
        self._show_the_direct_map()
        if filters.cgroup is not None:
            self._bpf[b"cgroups"][0] = str(filters.cgroup)

    def _attach_kprobes(self, plan: Plan) -> None:
        for function, attachment in plan.functions.items():
            event = function.encode()
            if attachment.how is How.KPROBE:
                # In this order no call is saved whose return is not told.
                self._bpf.attach_kretprobe(event=event, fn_name=b"leave_" + event)
                self._bpf.attach_kprobe(event=event, fn_name=b"enter_" + event)

    def _let_the_walker_go_on(self) -> None:
        """The program that walks a page table calls itself through a table (see bpf/walk.h)."""
        if self._fd("walker") < 0:
            return
        functions = self._bpf.funcs.items()
        walker = next(each for name, each in functions if name.endswith(_WALKER))
        self._update("walker", struct.pack("=I", 0), struct.pack("=i", walker.fd))

    def _show_the_direct_map(self) -> None:
        """Take the write fault from which the programs learn where page tables are.

        See learn_direct_map() in bpf/inspection.h. Writing to a page that was only read is
        such a fault on every kernel: it is the shared zero page.
        """
        table = self._fd("direct_map")
        if table < 0:
            return
        with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
            page[0] = page[0] + 1
        if not any(self._lookup(table, struct.pack("=I", 0), 8) or b""):
            raise HostError(
                "The place of this kernel's page tables could not be found out.",
                "Trace without looking at them: --inspect none",
            )
        # It has nothing more to do, and each write-protect fault would run it.
        for learner in self._bpf.kfunc_entry_fds.keys() & set(_LEARNER):
            self._bpf.detach_kfunc(learner)

    def _fd(self, table: str) -> int:
        return int(self._lib.bpf_table_fd(self._bpf.module, table.encode()))

    def _check(self, result: int, doing: str) -> None:
        if result < 0:
            error = os.strerror(ctypes.get_errno())
            raise HostError(f"The kernel refused {doing}: {error}.", "Run `pte-trace doctor`.")

    def _on_table(self, call: Callable[..., int], *arguments: Any) -> int:
        """What a function of BCC's that is a system call on a table returns."""
        with self._reading():
            return call(*arguments)

    def follow(self, tgid: int, tracing: int) -> None:
        """Set how a process is traced: a value of ``enum tracing``."""
        self._update("followed", struct.pack("=I", tgid), struct.pack("=I", tracing))

    def unfollow(self, tgid: int) -> None:
        """Trace a process no longer; no error if it was not traced."""
        key = ctypes.create_string_buffer(struct.pack("=I", tgid), 4)
        self._on_table(self._lib.bpf_delete_elem, self._fd("followed"), key)

    def is_followed(self, tgid: int) -> bool:
        return self._lookup(self._fd("followed"), struct.pack("=I", tgid), 4) is not None

    def _update(self, table: str, key: bytes, value: bytes) -> None:
        result = self._on_table(
            self._lib.bpf_update_elem,
            self._fd(table),
            ctypes.create_string_buffer(key, len(key)),
            ctypes.create_string_buffer(value, len(value)),
            0,
        )
        self._check(result, f"an update of {table}")

    def _lookup(self, table: int, key: bytes, size: int) -> bytes | None:
        value = ctypes.create_string_buffer(size)
        wanted = ctypes.create_string_buffer(key, len(key))
        found = self._on_table(self._lib.bpf_lookup_elem, table, wanted, value)
        return value.raw if found == 0 else None

    def read(self) -> Reading:
        """Take what was counted since the last call. Raises HostError.

        The tables are swapped first. A swap returns when no program uses the old
        one any more (see bpf/vma.h), so nothing is counted twice and nothing is lost.
        """
        idle = self._active
        following = 0 if idle is None else 1 - idle
        self._empty(self._files[following], self._file_room)
        for tables, active in (
            (self._files, "active_files"),
            (self._records, "active_records"),
        ):
            self._update(active, struct.pack("=I", 0), struct.pack("=I", tables[following]))
        self._active = following
        return Reading(b"", b"") if idle is None else self._read(self._records[idle])

    def _read(self, table: int) -> Reading:
        heads = _cut(table, 0, _HEADS)
        records, remainders = self._capacity.records, self._capacity.remainders
        claims = (head.claims for head in LAYOUT.ffi.from_buffer("struct vma_record[]", heads))
        vmas, processes = map(min, claims, (records, remainders))
        return Reading(
            _cut(table, _HEADS, vmas),
            _cut(table, _HEADS + records, processes) + heads[-LAYOUT.record_size :],
        )

    def _taken(self, table: int, room: _Room) -> RawRecords:
        number = self._empty(table, room)
        return RawRecords(number, *room.taken(number))

    def _empty(self, table: int, room: _Room) -> int:
        """Move what is in *table* to *room*. Returns the number of entries."""
        return self._batch(self._lib.bpf_lookup_and_delete_batch, table, room)

    def _batch(self, call: Any, table: int, room: _Room) -> int:
        """Have *call* fill *room* from *table*. Returns the number of entries."""
        count = ctypes.c_uint32(room.entries)
        position = ctypes.c_uint32()
        ctypes.set_errno(0)
        result = self._on_table(
            call, table, None, ctypes.byref(position), room.keys, room.values, ctypes.byref(count)
        )
        # The end of the table is reported as ENOENT, with the entries read.
        if result < 0 and ctypes.get_errno() not in (0, 2) and result != -2:
            self._check(-1, "a reading of its tables")
        return count.value

    def code(self) -> RawRecords:
        """The packed structs code_key and code_record noted since the last call."""
        room = _Room(LAYOUT.code_key_size, LAYOUT.code_size, self._capacity.records)
        return self._taken(self._fd("code"), room)

    def call_sites(self) -> RawRecords:
        """All packed ``struct call_site`` seen so far, and the calls of each (u64)."""
        room = _Room(LAYOUT.call_site_size, _CALLS_SIZE, self._capacity.records)
        number = self._batch(self._lib.bpf_lookup_batch, self._fd("call_sites"), room)
        return RawRecords(number, *room.taken(number))

    def file(self, key: bytes) -> bytes | None:
        """The packed ``struct file_record`` of a ``struct file_key`` in the last reading."""
        assert self._active is not None
        for tables in (self._files[1 - self._active], self._files[self._active]):
            found = self._lookup(tables, key, LAYOUT.file_size)
            if found is not None:
                return found
        return None

    def health(self) -> bytes:
        """The packed ``struct health_record``."""
        value = self._lookup(self._fd("health"), struct.pack("=I", 0), LAYOUT.health_size)
        assert value is not None
        return value

    def programs(self) -> list[ProgramInfo]:
        """The kernel's account of each loaded program."""
        return [
            self._program_info(name.decode(), each.fd) for name, each in self._bpf.funcs.items()
        ]

    def _program_info(self, name: str, fd: int) -> ProgramInfo:
        info = ctypes.create_string_buffer(_PROG_INFO_SIZE)
        size = ctypes.c_uint32(_PROG_INFO_SIZE)
        if self._lib.bpf_obj_get_info(fd, info, ctypes.byref(size)) < 0:
            return ProgramInfo(name, 0, 0, 0)
        (run_time_ns,) = struct.unpack_from("=Q", info, _RUN_TIME_NS)
        (missed,) = struct.unpack_from("=Q", info, _RECURSION_MISSES)
        (verified,) = struct.unpack_from("=I", info, _VERIFIED)
        return ProgramInfo(name, run_time_ns, missed, verified)

    def close(self) -> None:
        """Detach and unload everything. Safe to call twice.

        A kprobe made by perf_event_open(2) ends with its descriptor. BCC would look for it in
        debugfs too, which may not be mounted, or not be ours to read any more.
        """
        for probes in self._bpf.kprobe_fds.values():
            for fd in probes.values():
                self._lib.bpf_close_perf_event_fd(fd)
        self._bpf.kprobe_fds.clear()
        self._bpf.cleanup()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
