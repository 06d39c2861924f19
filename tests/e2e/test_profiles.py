"""What tools of the ecosystem make of stacks: their sums are those of the JSON document."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.effort import Effort
from tests.builders import record, snapshot
from tests.command import pte_trace
from tests.recordings import interval, metadata, recorded

# Debian's package of a profiler for Perl has FlameGraph's script.
FLAMEGRAPH = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl"
MAIN = Frame(0x4010, "/bin/gc", 0x10, "main+0x2e")
PUT = Frame(0x4110, "/bin/gc", 0x110, "store::put(std::vector<int> const&)+0x7")
COPY = Frame(0x7010, "/lib/libc.so.6", 0x110, "memcpy+0x9")
UNNAMED = Frame(0x7090, "/lib/libc.so.6", 0x190, unnamed="its symbols name no function there")


def _stacks(turn: int) -> tuple[Stack, ...]:
    reused = Event("write_faults", "wp_reuse", "user")
    return (
        Stack(reused, (COPY, PUT, MAIN), 46 * turn),
        Stack(reused, (UNNAMED, MAIN), 23),
        Stack(Event("write_faults", "wp_copy", "kernel"), (COPY, Frame(0x66)), 19),
        Stack(Event("write_faults", "other", "remote"), (), 13),
        Stack(Event("protection_changes", "mprotect"), (PUT, MAIN), 7 * turn),
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    effort = Effort(stacks=1)
    intervals = [
        interval(
            snapshot(
                record(stacks=_stacks(turn)),
                record(pid=101, comm="other", stacks=_stacks(1)),
                effort=effort,
            ),
            turn,
        )
        for turn in (1, 2)
    ]
    path = tmp_path_factory.mktemp("profiles") / "r.parquet"
    return recorded(path, intervals, metadata(effort, command=("./gc",)))


@pytest.fixture(scope="module")
def sums(recording: Path) -> Counter[str]:
    """By function, where it is the innermost; and of all."""
    found: Counter[str] = Counter()
    document = json.loads(pte_trace("report", recording, "--format", "json").stdout)
    for each in document["stacks"]["stacks"]:
        inner = each["frames"][0] if each["frames"] else {}
        name = str(inner.get("function")).rpartition("+")[0]
        found[f"{each['counted']} {name}"] += each["count"]
        found[each["counted"]] += each["count"]
    return found


@pytest.fixture(scope="module")
def profile(recording: Path) -> Path:
    path = recording.with_suffix(".pb.gz")
    done = pte_trace("report", recording, "--format", "pprof", "-o", path)
    assert done.returncode == 0, done.stderr
    return path


def _go_pprof(profile: Path, *options: str) -> str:
    return subprocess.run(
        ["go", "tool", "pprof", "-symbolize=none", *options, str(profile)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={"PATH": "/usr/bin:/bin", "HOME": str(profile.parent)},
    ).stdout


@pytest.mark.parametrize(
    ("kind", "counted"), [("faults", "write_faults"), ("calls", "protection_changes")]
)
def test_go_tool_pprof_has_the_same_sums(
    profile: Path, sums: Counter[str], kind: str, counted: str
) -> None:
    said = _go_pprof(profile, "-top", "-nodefraction=0", f"-sample_index={kind}")
    assert f"Type: {kind}" in said
    total = re.search(r"of (\d+) total", said)
    assert total is not None
    assert int(total[1]) == sums[counted]
    flat = {
        line.split(maxsplit=5)[5]: int(line.split()[0])
        for line in said.splitlines()
        if re.match(r" +\d+ +[\d.]+%", line)
    }
    for name in ("memcpy", "store::put(std::vector<int> const&)"):
        assert flat.get(name, 0) == sums[f"{counted} {name}"], said


def test_go_tool_pprof_finds_labels(profile: Path, sums: Counter[str]) -> None:
    said = _go_pprof(profile, "-top", "-tagfocus=origin=remote")
    total = re.search(r"of (\d+) total", said)
    assert total is not None
    assert int(total[1]) == sums["write_faults"]
    assert re.search(r"^ +52 .*\[remote\]$", said, re.MULTILINE), said
    assert "wp_copy" in _go_pprof(profile, "-tags")


def test_flamegraph_draws_the_same_sum(recording: Path, sums: Counter[str]) -> None:
    folded = pte_trace("report", recording, "--format", "folded").stdout
    drawn = subprocess.run(
        ["perl", FLAMEGRAPH, "--countname", "faults"],
        input=folded,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert drawn.stderr == ""
    assert f"all ({sums['write_faults']} faults, 100%)" in drawn.stdout
    copies = re.findall(r"<title>memcpy \((\d+) faults", drawn.stdout)
    assert sum(map(int, copies)) == sums["write_faults memcpy"]
