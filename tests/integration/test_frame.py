"""`pte_trace.load`: the DataFrame."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings

import pte_trace
from pte_trace.effort import Effort
from pte_trace.recording.interval import Interval
from pte_trace.recording.metadata import Metadata
from pte_trace.records import OUTCOMES
from tests.builders import counts, histogram, record, snapshot
from tests.recordings import STARTED, interval, metadata, recorded, recordings


def test_a_row_for_each_interval_and_mapping(tmp_path: Path) -> None:
    one = record(
        pid=7,
        start=0x1000,
        end=0x2000,
        counts=counts(
            {"mprotect": 2},
            {"mprotect": 46},
            {"wp_reuse": 3},
            writable={"mprotect": 40},
            costs={"wp_reuse": histogram(700, 1500)},
        ),
    )
    other = record(pid=8, name="/usr/bin/x", kind="file")
    path = recorded(
        tmp_path / "r.parquet", [interval(snapshot(one, other), 1), interval(snapshot(one), 2)]
    )

    frame = pte_trace.load(path)

    assert list(frame.index) == [STARTED + timedelta(seconds=n) for n in (1, 1, 2)]
    assert list(frame["pid"]) == [7, 8, 7]
    assert list(frame["start"]) == [0x1000, 0x10000, 0x1000]
    assert list(frame["ptes_made_writable_mprotect"]) == [40, 0, 40]
    assert frame["write_faults_wp_reuse"].sum() == 6
    assert list(frame["fault_ns_wp_reuse_sum"]) == [2200, 0, 2200]
    assert list(frame["fault_ns_wp_reuse_count"]) == [2, 0, 2]
    assert frame.attrs["metadata"]["kernel"]["release"] == "6.18.0-test"
    assert frame.attrs["ended"] is True


def test_the_columns_have_the_types_that_are_documented(tmp_path: Path) -> None:
    frame = pte_trace.load(recorded(tmp_path / "r.parquet", [interval(snapshot(record()))]))

    assert isinstance(frame.index, pd.DatetimeIndex)
    assert (frame.index.name, str(frame.index.dtype)) == ("time", "datetime64[us, UTC]")
    types = {str(name): str(kind) for name, kind in frame.dtypes.items()}
    named = {name: types.pop(name) for name in list(types)[:12]}
    assert named == {
        "run": "int32",
        "duration_s": "float64",
        "pid": "int32",
        "comm": "category",
        "ppid": "int32",
        "image": "uint64",
        "start": "uint64",
        "end": "uint64",
        "perms": "category",
        "kind": "category",
        "name": "category",
        "protection_changes_mprotect": "Int64",
    }
    assert set(types.values()) == {"Int64"}
    assert pte_trace.load.__doc__ is not None
    for name in (*named, *types):
        stem = name.rsplit("_", 1)[0]
        assert any(f"``{known}" in pte_trace.load.__doc__ for known in (name, stem, "fault_ns"))


def test_what_was_not_looked_at_is_missing_not_zero(tmp_path: Path) -> None:
    effort = Effort(inspect=0, costs=0)
    path = recorded(
        tmp_path / "r.parquet", [interval(snapshot(record(), effort=effort))], metadata(effort)
    )

    frame = pte_trace.load(path)

    assert frame["ptes_made_writable_mprotect"].isna().all()
    assert frame["ptes_left_readonly_clean"].isna().all()
    assert frame["fault_ns_wp_reuse_sum"].isna().all()
    assert (frame["write_faults_other"] == 1).all()


@given(made=recordings())
@settings(max_examples=30)
def test_rows_add_up_to_the_totals(
    tmp_path_factory: pytest.TempPathFactory, made: tuple[Metadata, list[Interval]]
) -> None:
    about, intervals = made
    path = recorded(tmp_path_factory.mktemp("frame") / "r.parquet", intervals, about)

    frame = pte_trace.load(path)

    assert len(frame) == sum(len(each.snapshot.vmas) for each in intervals)
    for place, outcome in enumerate(OUTCOMES):
        whole = sum(each.snapshot.totals.write_faults[place] for each in intervals)
        assert frame[f"write_faults_{outcome}"].sum() == whole
