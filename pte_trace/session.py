"""Trace this host: from its facts to snapshots. What the commands are built on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from os import getpid
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from pte_trace import facts, plan, stacks
from pte_trace.driver import Driver, bcc_version
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.errors import HostError, PteTraceError
from pte_trace.facts import HostFacts
from pte_trace.filters import Filters
from pte_trace.plan import How, Plan
from pte_trace.program import Capacity
from pte_trace.records import LAYOUT, TRACING, VmaRecord, decode
from pte_trace.remembered import RememberedBTF
from pte_trace.snapshot import (
    Health,
    Kernel,
    Ledger,
    ReuseCost,
    Snapshot,
    build,
)

BOTH_WAYS = (How.FENTRY, How.KPROBE)


@dataclass(frozen=True)
class _Host:
    """What there is to trace, and how it is traced. BTF is None only where that is refused."""

    facts: HostFacts
    plan: Plan
    btf: RememberedBTF | None


class Session:
    """The programs attached, from entering to leaving. Counting begins with `start`."""

    def __init__(
        self,
        filters: Filters,
        *,
        effort: Effort = EVERYTHING,
        capacity: Capacity | None = None,
        ways: tuple[How, ...] = BOTH_WAYS,
        split: bool = False,
        keep: bool = True,
        working: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """*working* is entered with a sentence while the programs are made.

        Without *keep* each reading is forgotten once it is handed out, and there is no total.
        """
        self.filters = filters
        self.effort = effort
        self._capacity = capacity or Capacity()
        self._ways = ways
        self._split = split
        self._working = working
        self._keep = keep
        self._ledger = Ledger()
        self._map_full = 0
        self._entries = 0
        self._code: list[stacks.CodeMapping] = []
        self._host: _Host | None = None
        self._driver: Driver | None = None
        self._started = self._interval_started = time.monotonic()

    @property
    def facts(self) -> HostFacts:
        """Known once the session was examined or entered, as the plan and the kernel are."""
        return _known(self._host).facts

    @property
    def plan(self) -> Plan:
        return _known(self._host).plan

    @property
    def kernel(self) -> Kernel:
        return Kernel(self.facts.release or "unknown", self.facts.behavior.optimization)

    @property
    def driver(self) -> Driver:
        """There is one once the session was entered."""
        return _known(self._driver)

    def examine(self) -> None:
        """Find out how what is asked for is traced; nothing stays attached. Raises HostError."""
        btf, problem = facts.read_btf()
        found = facts.collect(btf, problem, bcc_version())
        planned = plan.make(found, self._ways)
        by_process = planned.by_process if self.filters.by_process else None
        if refusal := planned.refusal or by_process:
            raise HostError(refusal.why, refusal.mend)
        self._host = _Host(found, planned, btf)

    def __enter__(self) -> Session:
        """Load and attach. Raises HostError; PteTraceError if the processes asked for ended."""
        if self._host is None:
            self.examine()
        btf = _known(_known(self._host).btf)
        with self._working("Preparing the BPF programs for this kernel"):
            self._driver = Driver(self.plan, self.filters, self._capacity, self.effort, btf)
        btf.keep()
        try:
            self._follow(self.filters.pids)
        except BaseException:
            self.driver.close()
            raise
        return self

    def _follow(self, pids: tuple[int, ...]) -> None:
        """Follow the processes that are left; one may have ended while the programs were made."""
        for pid in pids:
            self.driver.follow(pid, TRACING["now"])
            if not is_running(pid):
                self.driver.follow(pid, TRACING["never"])
        if self.processes_ended() and not self.filters.children:
            ended = " and ".join(map(str, pids))
            raise PteTraceError(
                f"Process {ended} ended before its tracing began.",
                "Trace a command from its first instruction on: pte-trace run -- CMD",
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.driver.close()

    @contextmanager
    def following(self) -> Iterator[None]:
        """What this process starts meanwhile is followed from its exec on; this process is not."""
        self.driver.follow(getpid(), TRACING["children"])
        try:
            yield
        finally:
            self.driver.follow(getpid(), TRACING["never"])

    def start(self) -> None:
        """Begin to count."""
        self.driver.read()
        self._note_mapped_now()
        self._started = self._interval_started = time.monotonic()

    def read(self) -> Snapshot:
        """Take what was counted since the last reading; the snapshot of that interval."""
        began = self._interval_started
        interval = Ledger()
        interval.add(self.gather())
        return self._snapshot(interval.records(), self._interval_started - began)

    def gather(self) -> list[VmaRecord]:
        """Take what was counted since the last reading, for `total`."""
        reading = self.driver.read()
        self._interval_started = time.monotonic()
        records = [record for packed in reading for record in decode(packed, self.driver.file)]
        self._entries = len(reading.vmas) // LAYOUT.record_size
        self._map_full += sum(each.counts.events for each in records if not each.attributed)
        if self._keep:
            self._ledger.add(records)
            self._note_code()
        return records

    def processes_ended(self) -> bool:
        """Whether all processes asked for by PID are gone; False where none was."""
        pids = self.filters.pids
        return bool(pids) and not any(self.driver.is_followed(pid) for pid in pids)

    def total(self) -> Snapshot:
        """The snapshot of all readings so far; with the calls behind changes if asked for."""
        records = self._ledger.records()
        if self.effort.stacks:
            records = self._with_call_sites(records)
        return self._snapshot(records, self._interval_started - self._started)

    def _note_mapped_now(self) -> None:
        if self.effort.stacks:
            for pid in self.filters.pids:
                self._code += stacks.mapped_now(pid)

    def _note_code(self) -> None:
        if self.effort.stacks:
            raw = self.driver.code()
            self._code += stacks.decode_code(raw.keys, raw.values, raw.number, self.driver.file)

    def _with_call_sites(self, records: tuple[VmaRecord, ...]) -> tuple[VmaRecord, ...]:
        from pte_trace import symbols  # it takes time: only where there are any to be read

        self._note_mapped_now()
        code = stacks.Code(self._code, {record.pid: record.ppid for record in records})
        raw = self.driver.call_sites()
        calls = stacks.decode_calls(raw.keys, raw.values, raw.number)
        with self._working("Reading symbols"):
            return stacks.attach(records, calls, code, symbols.function_at)

    def _snapshot(self, records: tuple[VmaRecord, ...], duration_s: float) -> Snapshot:
        snapshot = build(
            records,
            kernel=self.kernel,
            hooks=self.plan.attachments,
            duration_s=duration_s,
            health=self._health(),
            effort=self.effort,
            calibration=self._calibration(),
            split=self._split,
        )
        return replace(snapshot, foreign_pids=self.facts.initial_pid_namespace is False)

    def _calibration(self) -> ReuseCost | None:
        """What this kernel's `wp_reuse` faults cost when pte-trace tried it, before it traced."""
        took_ns = self.facts.behavior.reuse_fault_ns
        return None if took_ns is None else ReuseCost(took_ns, "wp_reuse faults of pte-trace's own")

    def _health(self) -> Health:
        programs = self.driver.programs().values()
        health = LAYOUT.ffi.from_buffer("struct health_record *", self.driver.health())
        run_time_ns = sum(program.run_time_ns for program in programs)
        return Health(
            map_full=self._map_full,
            stacks_full=health.stacks_full,
            missed_runs=health.returns_missed + sum(program.missed_runs for program in programs),
            probe_seconds=run_time_ns / 1e9 if run_time_ns else None,
            entries=self._entries,
            capacity=self._capacity.records,
        )


_Part = TypeVar("_Part")


def _known(part: _Part | None) -> _Part:
    if part is None:
        raise RuntimeError("The session was neither examined nor entered.")
    return part


def is_running(pid: int) -> bool:
    """Whether a thread of the process is left: the leader may end before the others."""
    with suppress(FileNotFoundError):  # it has ended
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            with suppress(OSError):
                state = stat.read_bytes().rpartition(b")")[2].split()[0]
                if state not in (b"Z", b"X"):
                    return True
    return False
