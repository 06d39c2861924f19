"""`pte_trace.load`: the DataFrame."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings

import pte_trace
from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.counts import Counts
from pte_trace.counted.snapshot import Health
from pte_trace.effort import Effort
from pte_trace.recording.interval import Interval
from pte_trace.recording.layout import IDENTITY, INSPECTED, RECORDED
from pte_trace.recording.metadata import Metadata
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
    named = {name: types.pop(name) for name in list(types)[:15]}
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
        "inode": "uint64",
        "dev": "uint32",
        "cgroup": "category",
        "protection_changes_mprotect": "Int64",
    }
    assert set(types.values()) == {"Int64"}
    assert_documented([*named, *types])


def assert_documented(names: list[str]) -> None:
    assert pte_trace.load.__doc__ is not None
    for name in names:
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


def test_an_interval_in_which_nothing_happened_has_a_row_too(tmp_path: Path) -> None:
    seen = record(counts=counts(faults={"wp_reuse": 6}))
    lost = Health(map_full=1, missed_runs=2, probe_seconds=0.5, entries=3, capacity=4)
    path = recorded(
        tmp_path / "r.parquet",
        [
            interval(snapshot(seen, duration_s=1.0), 1),
            interval(snapshot(duration_s=2.0), 3),
            interval(snapshot(seen, duration_s=3.0, health=lost), 6),
        ],
    )

    frame = pte_trace.load(path, each="interval")

    assert list(frame.index) == [STARTED + timedelta(seconds=n) for n in (1, 3, 6)]
    assert list(frame["duration_s"]) == [1, 2, 3]
    assert list(frame["write_faults_wp_reuse"] / frame["duration_s"]) == [6, 0, 2]
    assert list(frame["health_missed_runs"]) == [0, 0, 2]
    types = {str(name): str(kind) for name, kind in frame.dtypes.items()}
    assert {name: kind for name, kind in types.items() if kind != "Int64"} == {
        "run": "int32",
        "duration_s": "float64",
        "health_probe_seconds": "float64",
    }
    assert_documented(list(types))
    for found in (frame, pte_trace.load(path)):
        assert {**found.attrs, "metadata": None} == {
            "metadata": None,
            "ended": True,
            "intervals": 3,
            "duration_s": 6.0,
            "health": health_of(lost),
        }
        assert found.attrs["metadata"] == metadata().document()


def test_a_recording_without_intervals_is_an_empty_frame(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.parquet", [])

    for frame in (pte_trace.load(path), pte_trace.load(path, each="interval")):
        assert len(frame) == 0
        assert frame.attrs["health"] is None


def counted(of: Counts, effort: Effort) -> dict[str, int | None]:
    """All counts under the names of the frame's columns; None is what was not looked at."""
    found: dict[str, int | None] = {
        f"{family.name}_{name}": None
        if family.name in INSPECTED and not effort.inspects
        else number
        for family in RECORDED
        for name, number in of.by_name(family).items()
    }
    for outcome, cost in zip(OUTCOMES, of.costs, strict=True):
        found[f"fault_ns_{outcome}_count"] = cost.count if effort.times else None
        found[f"fault_ns_{outcome}_sum"] = cost.sum if effort.times else None
    return found


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])
@given(made=recordings())
@settings(max_examples=30)
def test_every_count_is_given_back(
    tmp_path_factory: pytest.TempPathFactory, ended: bool, made: tuple[Metadata, list[Interval]]
) -> None:
    about, intervals = made
    path = recorded(tmp_path_factory.mktemp("frame") / "r.parquet", intervals, about, ended=ended)
    mappings = [
        {
            **{name: getattr(vma, name) for name in IDENTITY},
            **counted(vma.counts, about.effort),
            "time": each.time,
            "run": each.run,
            "duration_s": each.snapshot.duration_s,
        }
        for each in intervals
        for vma in each.snapshot.vmas
    ]
    whole = [counted(each.snapshot.totals, about.effort) for each in intervals]

    assert rows(pte_trace.load(path)) == mappings
    frame = pte_trace.load(path, each="interval")
    assert [{name: row[name] for name in row if name in whole[0]} for row in rows(frame)] == whole
    lost = [health_of(each.snapshot.health) for each in intervals]
    assert [{name: row[f"health_{name}"] for name in lost[0]} for row in rows(frame)] == lost


def health_of(health: Health) -> dict[str, object]:
    """As a recording has it, which notes no stacks."""
    found = asdict(health)
    for unrecorded in ("stacks_full", "paths_full", "timings_full"):
        del found[unrecorded]
    return found


def rows(frame: pd.DataFrame) -> list[dict[str, object]]:
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.reset_index().to_dict("records")
    ]
