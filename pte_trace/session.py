"""Trace this host: from its facts to snapshots. What the commands are built on."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from os import getpid
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, TypeVar

from pte_trace.counted import stacks
from pte_trace.counted.mapping import Stack
from pte_trace.counted.packed import LAYOUT, TRACING, VmaKey
from pte_trace.counted.snapshot import Health, Kernel, ReuseCost, Snapshot
from pte_trace.effort import EVERYTHING, Effort
from pte_trace.errors import HostError, PteTraceError
from pte_trace.filters import Filters
from pte_trace.host import facts, plan
from pte_trace.host.facts import HostFacts
from pte_trace.host.plan import How, Plan
from pte_trace.kernel.remembered import RememberedBTF
from pte_trace.programs.driver import Driver
from pte_trace.programs.image import bcc_version
from pte_trace.programs.program import Capacity
from pte_trace.symbols import mapped

# Before the rarer ones are cut; and processes that are looked at in one reading.
_MOST_STACKS = 1 << 15
_MOST_LOOKED_AT = 64

# What is of columns is imported at the first reading: nothing waits for numpy before it counts.
if TYPE_CHECKING:
    from pte_trace.counted.columns import Columns
    from pte_trace.counted.ledger import Ledger
    from pte_trace.symbols.names import Remembered

EVERY_WAY = tuple(How)


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
        ways: tuple[How, ...] = EVERY_WAY,
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
        self._map_full = 0
        self._entries = 0
        self._code = stacks.Code()
        self._looked_at: set[tuple[int, int]] = set()
        self._stacks: Counter[stacks.RawStack] = Counter()
        self._latest_stacks: Counter[stacks.RawStack] = Counter()
        self._host: _Host | None = None
        self._driver: Driver | None = None
        self._started = self._interval_started = time.monotonic()

    @cached_property
    def _ledger(self) -> Ledger:
        from pte_trace.counted.ledger import Ledger

        return Ledger()

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
        with self.driver.reading():
            pass  # what was counted while all was attached
        self._note_mapped_now()
        self._started = self._interval_started = time.monotonic()

    def read(self) -> Snapshot:
        """Take what was counted since the last reading; the snapshot of that interval."""
        began = self._interval_started
        with self._reading() as columns:
            if self._keep:
                self._ledger.add(columns)
            named = self._named(self._latest_stacks)
            return self._snapshot(columns, self._interval_started - began, named)

    def gather(self) -> None:
        """Take what was counted since the last reading, for `total`."""
        with self._reading() as columns:
            self._ledger.add(columns)

    @contextmanager
    def _reading(self) -> Iterator[Columns]:
        """The columns are lent, and whatever is kept of them is a copy."""
        from pte_trace.counted import reading
        from pte_trace.counted.ledger import by_vma

        with self.driver.reading() as packed:
            self._interval_started = time.monotonic()
            # Where those of version 2 are not in use all processes are in their root.
            in_use = self.facts.cgroups != "1"
            columns = by_vma(reading.unpacked(packed, self.driver.file, cgroups=in_use))
            self._entries = len(packed.vmas) // LAYOUT.record_size
            self._map_full += columns.not_attributed
            self._note_stacks(columns)
            yield columns
            del columns

    def processes_ended(self) -> bool:
        """Whether all processes asked for by PID are gone; False where none was."""
        pids = self.filters.pids
        return bool(pids) and not any(self.driver.is_followed(pid) for pid in pids)

    def total(self) -> Snapshot:
        """The snapshot of all readings so far."""
        columns = self._ledger.columns()
        with self._working("Reading symbols") if self.effort.stacks else nullcontext():
            named = self._named(self._stacks)
        return self._snapshot(columns, self._interval_started - self._started, named)

    def _note_mapped_now(self) -> None:
        if self.effort.stacks:
            for pid in self.filters.pids:
                self._code.note(mapped.code(pid))

    def _note_stacks(self, columns: Columns) -> None:
        """What was noted since the last reading, whose table is lent."""
        if not self.effort.stacks:
            return
        raw = self.driver.code()
        self._code.note(stacks.decode_code(raw.keys, raw.values, raw.number, self.driver.file))
        parents = zip(*(columns.rows[name].tolist() for name in ("pid", "ppid")), strict=True)
        self._code.note_parents(dict(parents))
        raw = self.driver.stacks()
        self._latest_stacks = stacks.decode_stacks(raw.keys, raw.values, raw.number)
        self._note_code_of_others()
        if self._keep:
            self._stacks.update(self._latest_stacks)
            if len(self._stacks) > _MOST_STACKS:
                self._stacks = stacks.shortened(self._stacks)

    def _note_code_of_others(self) -> None:
        """Of processes that were there before: from what they have mapped now."""
        unknown = stacks.of_unknown_code(self._latest_stacks, self._code) - self._looked_at
        for program in sorted(unknown)[:_MOST_LOOKED_AT]:
            self._looked_at.add(program)
            self._code.note(mapped.code(program[0]))

    def _named(self, found: stacks.RawStacks) -> Mapping[VmaKey, Sequence[Stack]]:
        if not self.effort.stacks:
            return {}
        raw = stacks.shortened(found)
        named = self._names.names(stacks.places(raw, self._code))
        return stacks.by_vma(raw, self._code, named.__getitem__)

    @cached_property
    def _names(self) -> Remembered:
        from pte_trace.symbols.names import Remembered  # it takes time: only where they are read

        return Remembered()

    def _snapshot(
        self,
        columns: Columns,
        duration_s: float,
        named: Mapping[VmaKey, Sequence[Stack]] = MappingProxyType({}),
    ) -> Snapshot:
        from pte_trace.counted.building import build

        snapshot = build(
            columns,
            kernel=self.kernel,
            hooks=self.plan.attachments,
            duration_s=duration_s,
            health=self._health(),
            effort=self.effort,
            calibration=self._calibration(),
            split=self._split,
            stacks=named,
            needless=self.plan.needless,
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
            paths_full=health.paths_full,
            timings_full=health.timings_full,
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
