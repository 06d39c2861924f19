"""The rhythm of `record`'s readings."""

from __future__ import annotations

import time
from itertools import count, islice
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from pte_trace.commands.record import _Recording


@pytest.mark.parametrize("took_s", [0.3, 0.1, 0.0, 5.0])
def test_no_pause_is_negative_however_long_a_reading_takes(
    monkeypatch: pytest.MonkeyPatch, took_s: float
) -> None:
    """A clock that goes on between any two looks at it."""
    clock = count(step=took_s) if took_s else count(step=1e-9)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    recording = _Recording(MagicMock(), Path("r.parquet"), MagicMock(), 0.2)
    assert min(islice(recording._pauses(), 20)) >= 0
