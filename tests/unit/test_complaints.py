"""A log that no client can fill."""

from __future__ import annotations

from pte_trace.exporter.complaints import SAID_AGAIN_S, Complaints, Wrong
from tests.unit.test_reader import Clock


def test_each_kind_is_said_once_and_then_counted() -> None:
    clock, said = Clock(), list[str]()
    complaints = Complaints(said.append, clock)
    for _ in range(1000):
        complaints.hear(Wrong.NO_HTTP, "illegal request line")
        complaints.hear(Wrong.SLOW)
    assert said == [
        f"{Wrong.NO_HTTP.value}: illegal request line. Others are counted.",
        f"{Wrong.SLOW.value}. Others are counted.",
    ]
    clock.time = SAID_AGAIN_S
    for _ in range(1000):
        complaints.hear(Wrong.SLOW)
    assert said[2:] == [f"{Wrong.SLOW.value}. There were 1,000 more of the kind since."]


def test_it_goes_on_where_nobody_listens() -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    Complaints(broken).hear(Wrong.SLOW)
