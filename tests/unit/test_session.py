"""What a session refuses before anything is attached, and what it knows before it reads."""

from __future__ import annotations

from typing import Any

import pytest

from pte_trace import session as sessions
from pte_trace.counted.counts import NOTHING
from pte_trace.counted.packed import LAYOUT
from pte_trace.counted.snapshot import Kernel
from pte_trace.errors import HostError, PteTraceError
from pte_trace.filters import Filters
from pte_trace.host import facts
from pte_trace.kernel.remembered import RememberedBTF
from pte_trace.session import Session
from tests.btf_writer import kernel_btf
from tests.builders import host


def on(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A session finds this host."""
    monkeypatch.setattr(facts, "read_btf", lambda: (None, None))
    monkeypatch.setattr(facts, "collect", lambda *_: host(**changes))


BY_PROCESS = [Filters(pids=(1,)), Filters(children=True), Filters(pids=(1,), comm="java")]


@pytest.mark.parametrize("filters", BY_PROCESS)
def test_a_process_of_a_pid_namespace_cannot_be_asked_for(
    filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, initial_pid_namespace=False)
    with pytest.raises(HostError, match="neither -p nor a command"):
        Session(filters).examine()


@pytest.mark.parametrize("known", [True, None])
@pytest.mark.parametrize("filters", BY_PROCESS)
def test_elsewhere_it_can(
    filters: Filters, known: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, initial_pid_namespace=known)
    Session(filters).examine()


@pytest.mark.parametrize("filters", [Filters(), Filters(comm="java")])
def test_all_processes_can_be_asked_for_in_a_pid_namespace(
    filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, initial_pid_namespace=False)
    Session(filters).examine()


def test_a_host_that_is_refused_is_refused_by_its_first_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(monkeypatch, initial_pid_namespace=False, ftrace_enabled=False)
    with pytest.raises(HostError, match="ftrace_enabled"):
        Session(Filters(pids=(1,))).examine()


class Attached:
    """In place of a driver: nothing is counted, nobody is followed."""

    def __init__(self, *_: object) -> None:
        self.closed = False

    def programs(self) -> dict[str, object]:
        return {}

    def health(self) -> bytes:
        return bytes(LAYOUT.health_size)

    def follow(self, pid: int, tracing: int) -> None:
        if pid == FORBIDDEN:
            raise KeyboardInterrupt

    def is_followed(self, pid: int) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


FORBIDDEN = 2


@pytest.fixture
def attached(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch)
    monkeypatch.setattr(facts, "read_btf", lambda: (RememberedBTF(None, {}, kernel_btf), None))
    monkeypatch.setattr(sessions, "Driver", Attached)


@pytest.mark.usefixtures("attached")
def test_before_it_reads_a_session_counted_nothing() -> None:
    with Session(Filters()) as session:
        total = session.total()
    assert (total.totals, len(total.vmas), total.duration_s) == (NOTHING, 0, 0.0)
    assert (total.health.entries, total.kernel) == (0, Kernel("6.18.0-test", True))


@pytest.mark.parametrize("part", ["facts", "plan", "kernel", "driver"])
def test_what_is_not_known_yet_is_not_asked_for(part: str) -> None:
    with pytest.raises(RuntimeError, match="neither examined nor entered"):
        getattr(Session(Filters()), part)


@pytest.mark.usefixtures("attached")
@pytest.mark.parametrize(("pid", "error"), [(2**22, PteTraceError), (FORBIDDEN, KeyboardInterrupt)])
def test_a_session_that_cannot_be_entered_leaves_nothing_attached(
    pid: int, error: type[BaseException]
) -> None:
    session = Session(Filters(pids=(pid,)))
    with pytest.raises(error), session:
        pass
    assert session.driver.closed  # type: ignore[attr-defined]
