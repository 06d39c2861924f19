"""Readings: regular, one for many scrapes, and what happens when one fails."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.snapshot import Snapshot
from pte_trace.errors import HostError
from pte_trace.exporter import page
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import FRESH_S, Reader
from tests.builders import record, snapshot

PATIENCE_S = 30


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Source:
    def __init__(self, brought: VmaRow | None = None) -> None:
        self._brought = brought or record()
        self.readings = 0
        self.broken: Exception | None = None

    def read(self) -> Snapshot:
        if self.broken:
            raise self.broken
        self.readings += 1
        return snapshot(self._brought)


def faults(reader: Reader) -> int:
    return sum(reader.state().snapshot.totals[WRITE_FAULTS])


def test_readings_add_up() -> None:
    clock, source = Clock(), Source()
    with Reader(source, Groups(9), print, clock) as reader:
        assert faults(reader) == 1
        clock.time = FRESH_S
        assert faults(reader) == 2
        assert reader.state().readings == 2
        assert reader.state().snapshot.duration_s == 3.0


def test_many_scrapes_at_once_are_one_reading() -> None:
    clock, source = Clock(), Source()
    with Reader(source, Groups(9), print, clock) as reader:
        clock.time = FRESH_S
        threads = [threading.Thread(target=reader.state) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert source.readings == 2


def test_a_long_reading_is_fresh_when_it_ends() -> None:
    """Or whoever waited for it would have another one to wait for."""
    clock = Clock()

    class Slow(Source):
        def read(self) -> Snapshot:
            clock.time += 10 * FRESH_S
            return super().read()

    source = Slow()
    with Reader(source, Groups(9), print, clock) as reader:
        for _ in range(3):
            reader.state()
        assert source.readings == 1
        clock.time += FRESH_S
        for _ in range(3):
            reader.state()
        assert source.readings == 2


def test_a_reading_that_fails_is_counted_and_said_once() -> None:
    clock, source, said = Clock(), Source(), list[str]()
    with Reader(source, Groups(9), said.append, clock) as reader:
        source.broken = HostError("The kernel refused.")
        for clock.time in (1.0, 2.0):
            assert faults(reader) == 1
        assert not reader.ready
        assert reader.state().errors == 2
        assert said == ["The kernel refused."]
        source.broken = None
        clock.time = 3.0
        assert faults(reader) == 2
        assert reader.ready


def test_what_nobody_foresaw_is_a_reading_that_failed() -> None:
    clock, source, said = Clock(), Source(), list[str]()
    with Reader(source, Groups(9), said.append, clock) as reader:
        source.broken = OSError(errno.ENOMEM, "Cannot allocate memory")
        clock.time = 1.0
        assert faults(reader) == 1
        assert not reader.ready
        assert reader.state().errors == 1
        assert said == ["A reading failed: OSError: [Errno 12] Cannot allocate memory."]
        assert "1 reading of the tables failed" in page.render(reader.state(), "1")
        source.broken = None
        clock.time = 2.0
        assert faults(reader) == 2
        assert reader.ready


@pytest.mark.parametrize("broken", [OSError(errno.ENOMEM, "no memory"), ValueError("not a number")])
def test_readings_go_on_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """Also where nobody hears that one failed."""
    monkeypatch.setattr("pte_trace.exporter.reader.INTERVAL_S", 0.001)
    monkeypatch.setattr("pte_trace.exporter.reader.FRESH_S", 0.0)

    def say(sentence: str) -> None:
        raise BrokenPipeError(sentence)

    source = Source()
    with Reader(source, Groups(9), say) as reader:
        source.broken = broken
        wait_until(lambda: not reader.ready)
        source.broken = None
        wait_until(lambda: reader.ready)
        before = source.readings
        wait_until(lambda: source.readings > before)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_without_a_first_reading_there_is_nothing_to_serve() -> None:
    source = Source()
    source.broken = HostError("The kernel refused.")
    with pytest.raises(HostError), Reader(source, Groups(9), print):
        pass
