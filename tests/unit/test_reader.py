"""Readings: regular, one for many scrapes, and what happens when one fails."""

from __future__ import annotations

import threading

import pytest

from pte_trace.errors import HostError
from pte_trace.exporter.groups import Groups
from pte_trace.exporter.reader import FRESH_S, Reader
from pte_trace.snapshot import Snapshot
from tests.builders import record, snapshot


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Source:
    def __init__(self) -> None:
        self.readings = 0
        self.broken: str | None = None

    def read(self) -> Snapshot:
        if self.broken:
            raise HostError(self.broken)
        self.readings += 1
        return snapshot(record())


def faults(reader: Reader) -> int:
    return sum(reader.state().snapshot.totals.write_faults)


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


def test_a_reading_that_fails_is_counted_and_said_once() -> None:
    clock, source, said = Clock(), Source(), list[str]()
    with Reader(source, Groups(9), said.append, clock) as reader:
        source.broken = "The kernel refused."
        for clock.time in (1.0, 2.0):
            assert faults(reader) == 1
        assert not reader.ready
        assert reader.state().errors == 2
        assert said == ["The kernel refused."]
        source.broken = None
        clock.time = 3.0
        assert faults(reader) == 2
        assert reader.ready


def test_without_a_first_reading_there_is_nothing_to_serve() -> None:
    source = Source()
    source.broken = "The kernel refused."
    with pytest.raises(HostError), Reader(source, Groups(9), print):
        pass
