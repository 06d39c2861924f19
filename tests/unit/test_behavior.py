"""Whether the optimization is at work is found by doing it, and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from pte_trace.host import behavior


def open_files() -> list[str]:
    return os.listdir("/proc/self/fd")


def test_the_answer_is_yes_no_or_unclear() -> None:
    assert behavior.observe().optimization in (True, False, None)


def test_the_answer_does_not_change_from_one_time_to_the_next() -> None:
    answers = {behavior.observe().optimization for _ in range(5)} - {None}
    assert len(answers) <= 1


def test_a_fault_takes_time() -> None:
    took = behavior.observe().reuse_fault_ns
    assert took is None or 0 < took < 1e9


def test_no_child_and_no_open_file_is_left() -> None:
    before = open_files()
    behavior.observe()
    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
