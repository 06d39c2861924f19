"""What a session refuses before anything is attached."""

from __future__ import annotations

from typing import Any

import pytest

from pte_trace import facts
from pte_trace.errors import HostError
from pte_trace.filters import Filters
from pte_trace.session import Session
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
