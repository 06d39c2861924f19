"""What is looked at on this host: what may not be looked at is unknown, not missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pte_trace import facts


def refuse(path: Path, **_: Any) -> None:
    raise PermissionError(13, "Permission denied", str(path))


@pytest.mark.parametrize(
    ("known", "answer"),
    [
        ([], False),
        ([False, False], False),
        ([False, True], True),
        ([None, True], True),
        ([None, False], None),
    ],
)
def test_one_that_is_there_is_enough_and_one_unknown_leaves_it_open(
    known: list[bool | None], answer: bool | None
) -> None:
    assert facts._any(known) is answer


def test_a_file_is_there_or_not(tmp_path: Path) -> None:
    assert facts._exists(tmp_path) is True
    assert facts._exists(tmp_path / "none") is False
    (tmp_path / "file").touch()
    assert facts._exists(tmp_path / "file" / "below") is False


def test_collecting_for_a_user_who_may_not_look_at_tracefs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "stat", refuse)
    found = facts.collect(None, "Permission denied", (None, None))
    assert found.tracefs is None
    assert found.kprobes is None


@pytest.mark.parametrize(
    ("version", "chosen", "preemptible"),
    [
        ("#1 SMP Debian 5.10", None, False),
        ("#1 SMP PREEMPT Debian", None, True),
        ("#1 SMP PREEMPT_RT Debian", None, True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1", "none (voluntary) full \n", False),
        ("#1 SMP PREEMPT_DYNAMIC Debian 6.1", "(none) voluntary full \n", False),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", "full (lazy) \n", True),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", "garbage", None),
        ("#1 SMP PREEMPT_DYNAMIC Debian 7.2", None, None),
    ],
)
def test_whether_the_kernel_may_be_preempted_is_read_where_it_is_told(
    version: str,
    chosen: str | None,
    preemptible: bool | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "preempt"
    if chosen is not None:
        place.write_text(chosen)
    monkeypatch.setattr(facts, "_PREEMPTION", place)
    assert facts._preemptible(version) is preemptible
