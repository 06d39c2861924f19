"""Whether the optimization is at work is found by doing it, and leaves nothing behind."""

from __future__ import annotations

import os

import pytest

from pte_trace import optimization


def open_files() -> list[str]:
    return os.listdir("/proc/self/fd")


def test_the_answer_is_yes_no_or_unclear() -> None:
    assert optimization.at_work() in (True, False, None)


def test_the_answer_does_not_change_from_one_time_to_the_next() -> None:
    answers = {optimization.at_work() for _ in range(5)} - {None}
    assert len(answers) <= 1


def test_no_child_and_no_open_file_is_left() -> None:
    before = open_files()
    optimization.at_work()
    assert open_files() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
