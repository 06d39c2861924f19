"""`report` and `top --replay`: what is said of a recording."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pte_trace.commands.top import top
from pte_trace.counted.counts import total
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.effort import Effort
from pte_trace.recording.reading import Recording
from pte_trace.recording.replay import Replay
from pte_trace.recording.summary import summarize
from pte_trace.views import document, page, plots
from pte_trace.views.profile_proto import Profile
from tests.builders import counts, histogram, record, snapshot
from tests.command import pte_trace
from tests.recordings import interval, metadata, recorded

SEEN = record(
    pid=7,
    comm="gc",
    counts=counts(
        {"mprotect": 2},
        {"mprotect": 46},
        {"wp_reuse": 2, "other": 23},
        writable={"mprotect": 21},
        readonly={"clean": 2},
        costs={"wp_reuse": histogram(700, 1500)},
    ),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    intervals = [interval(snapshot(SEEN, duration_s=1.0), second) for second in (1, 2, 3)]
    return recorded(
        tmp_path / "r.parquet",
        intervals,
        metadata(command=("./gc", "--fast"), options={"comm": "gc", "pids": [], "cgroup": None}),
    )


def test_the_text_tells_what_was_recorded(path: Path) -> None:
    done = pte_trace("report", path)

    assert done.returncode == 0, done.stderr
    assert "Recorded 2026-03-01 12:00:00 UTC: 1 run of `./gc --fast`, 3 intervals of 1 s." in (
        done.stdout
    )
    assert re.search(r"^\s*7 +gc .* 75 ", done.stdout, re.MULTILINE)
    assert "The optimization made 63 PTEs writable at once" in done.stdout
    assert "Only what the filters let through: -c gc." in done.stdout


def test_json_is_what_run_writes_and_more(path: Path) -> None:
    found = json.loads(pte_trace("report", path, "--format", "json").stdout)

    expected = document.row(total([SEEN.counts] * 3), Effort())
    assert found["totals"] == expected
    assert [run["totals"] for run in found["runs"]] == [expected]
    assert found["duration_s"] == 3.0
    assert found["recording"]["ended"] is True
    assert found["recording"]["command"] == ["./gc", "--fast"]
    assert set(found) - {"recording", "runs"} == set(document.document(snapshot(SEEN)))


def test_csv_has_a_line_for_each_mapping(path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(pte_trace("report", path, "--format", "csv").stdout)))

    assert [(row["pid"], row["write_faults_other"]) for row in rows] == [("7", "69")]
    assert rows[0]["fault_ns_wp_reuse_count"] == "6"


def test_standard_output_can_be_named(path: Path) -> None:
    plain = pte_trace("report", path, "--format", "json")

    assert pte_trace("report", path, "--format", "json", "-o", "/dev/stdout").stdout == plain.stdout


def test_named_standard_output_keeps_what_others_wrote_to_it(path: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m pte_trace report {path} --format csv -o /dev/stdout"
    with (tmp_path / "log").open("w") as log:
        subprocess.run(["sh", "-c", f"echo before; {command}; echo after"], stdout=log, check=True)

    before, heads, row, after = (tmp_path / "log").read_text().splitlines()
    assert (before, after) == ("before", "after")
    assert heads.startswith("pid,")
    assert row.startswith("7,")


def test_what_was_left_behind_is_reported_and_said(tmp_path: Path) -> None:
    left = recorded(tmp_path / "left.parquet", [interval(snapshot(SEEN))], ended=False)

    done = pte_trace("report", left)
    assert done.returncode == 0, done.stderr
    assert "The recorder was killed" in done.stdout


@pytest.mark.parametrize("command", ["report", "compare", "top"])
@pytest.mark.parametrize("content", [b"", b"PAR1 and not more", b"\xff" * 5000])
def test_a_foreign_file_is_one_sentence_and_status_2(
    tmp_path: Path, command: str, content: bytes
) -> None:
    path = tmp_path / "foreign.parquet"
    path.write_bytes(content)
    arguments: list[object] = [path]
    if command == "compare":
        arguments = [path, path]
    elif command == "top":
        arguments = ["--replay", path]

    done = pte_trace(command, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"pte-trace: \S+foreign.parquet [^\n]+\.\n  [^\n]+\n", done.stderr)


def test_the_page_is_whole_and_fetches_nothing(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = pte_trace("report", path, "--html", out)

    assert done.returncode == 0, done.stderr
    text = out.read_text()
    shell = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)[^\"']*", shell)
    assert "./gc --fast" in shell
    assert "-c gc" in shell


def test_a_name_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>document.title='broken'</script><img src=x>"
    hostile = record(comm="<b>evil</b>", name=evil)
    path = recorded(
        tmp_path / "r.parquet", [interval(snapshot(hostile))], metadata(command=(evil,))
    )

    with Recording(path) as recording:
        text = page.report(recording.metadata, summarize(recording), ended=True)
    assert "<img src=x>" not in text
    assert "<b>evil</b>" not in text
    assert "<script>document.title" not in text


def test_every_plot_has_a_title_and_axes_with_units(path: Path) -> None:
    with Recording(path) as recording:
        summary = summarize(recording)
    figures = plots.of_recording(summary.timeline, summary.whole)

    titles = [figure.layout.title.text for figure in figures]
    assert len(titles) == len(set(titles)) == 7
    for figure in figures:
        assert figure.layout.title.text
        for axis in (figure.layout.xaxis, figure.layout.yaxis):
            assert re.search(
                r"UTC|per second|%|faults|PTEs|ns|outcome|cause|mapping|process", axis.title.text
            )


def test_what_was_not_looked_at_is_not_plotted(tmp_path: Path) -> None:
    effort = Effort(inspect=0, costs=0)
    path = recorded(
        tmp_path / "r.parquet", [interval(snapshot(record(), effort=effort))], metadata(effort)
    )

    with Recording(path) as recording:
        summary = summarize(recording)
        text = page.report(recording.metadata, summary, ended=True)
    assert len(plots.of_recording(summary.timeline, summary.whole)) == 4
    assert "are not known (--inspect none)" in text


def test_a_recording_without_intervals_is_reported(tmp_path: Path) -> None:
    path = recorded(tmp_path / "r.parquet", [])

    done = pte_trace("report", path)
    assert done.returncode == 0, done.stderr
    assert "0 intervals" in done.stdout
    assert pte_trace("report", path, "--html", tmp_path / "o.html").returncode == 0
    done = pte_trace("top", "--replay", path)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_replay_shows_each_interval_and_ends(path: Path) -> None:
    done = pte_trace("top", "--replay", path, "--speed", 1000, "--format", "json")

    assert done.returncode == 0, done.stderr
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert documents == [document.document(snapshot(SEEN, duration_s=1.0))] * 3


def test_a_replay_is_as_fast_as_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("threading.Event.wait", lambda _, pause: pauses.append(pause))
    arguments = ["--replay", str(path), "--speed", "4", "--format", "csv", "-o", os.devnull]

    top.main(arguments, standalone_mode=False)
    assert pauses == [0.25] * 3


def test_a_replay_adds_up(path: Path) -> None:
    with Recording(path) as recording:
        replay = Replay(recording)
        ended = []
        for _ in range(3):
            ended.append(replay.processes_ended())
            replay.read()
        whole = replay.total()
        expected = summarize(recording).whole
    assert ended == [False, False, True]
    assert whole == expected


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["-c", "gc"], "when it was made: -c cannot change it.\n  Leave out -c, or record again"),
        (["--split", "--costs", "all"], "when it was made: --split, --costs cannot change it"),
        (["-i", "1"], "has intervals of its own.\n  Leave out -i; --speed N shows them"),
    ],
)
def test_a_replay_takes_no_options_of_tracing(path: Path, option: list[str], said: str) -> None:
    done = pte_trace("top", "--replay", path, *option)

    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_only_a_recording_has_a_speed() -> None:
    done = pte_trace("top", "--speed", 2)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--speed is of a recording" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["record", "--help"]])
def test_pandas_and_pyarrow_are_not_imported_where_they_are_not_needed(
    arguments: list[str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pte_trace", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"pandas", "pyarrow", "plotly", "numpy", "bcc"}


def test_a_recorder_does_not_import_pandas(tmp_path: Path) -> None:
    script = (
        "import sys; from tests.integration.test_report import *; "
        f"recorded(Path({str(tmp_path / 'r.parquet')!r}), [interval(snapshot(SEEN))]);"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


STACKS = (
    Stack(
        Event("write_faults", "other", "user"),
        (Frame(0x4010, "/bin/gc", 0x10, "mark<int>+0x2"), Frame(0x66)),
        23,
    ),
    Stack(Event("write_faults", "wp_reuse", "remote"), (), 2),
)


@pytest.fixture
def with_stacks(tmp_path: Path) -> Path:
    effort = Effort(stacks=1)
    seen = replace(SEEN, stacks=STACKS)
    intervals = [interval(snapshot(seen, effort=effort), second) for second in (1, 2)]
    return recorded(tmp_path / "stacks.parquet", intervals, metadata(effort, command=("./gc",)))


def test_stacks_of_a_recording_are_told_in_text(with_stacks: Path) -> None:
    said = pte_trace("report", with_stacks).stdout
    assert "46 × other, user: mark<int>+0x2 (gc) < [unknown] 0x66" in said
    assert "4 × wp_reuse, remote: [another process or a kernel thread]" in said


def test_stacks_of_a_recording_add_up_in_every_format(with_stacks: Path, tmp_path: Path) -> None:
    found = json.loads(pte_trace("report", with_stacks, "--format", "json").stdout)
    assert [each["count"] for each in found["stacks"]["stacks"]] == [46, 4]
    assert pte_trace("report", with_stacks, "--format", "folded").stdout.splitlines() == [
        "gc;[unknown];mark<int>;other user [anon] 46",
        "gc;wp_reuse remote [anon] 4",
    ]
    made = Profile()
    done = pte_trace("report", with_stacks, "--format", "pprof", "-o", tmp_path / "p.pb.gz")
    assert done.returncode == 0, done.stderr
    made.ParseFromString(gzip.decompress((tmp_path / "p.pb.gz").read_bytes()))
    assert [tuple(sample.value) for sample in made.sample] == [(46, 0), (4, 0)]


@pytest.mark.parametrize("style", ["folded", "pprof"])
def test_a_recording_without_stacks_says_so(path: Path, style: str) -> None:
    done = pte_trace("report", path, "--format", style)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no stacks.\n  Record again with them" in done.stderr


def test_the_page_draws_stacks_where_there_are_some(
    with_stacks: Path, path: Path, tmp_path: Path
) -> None:
    pages = []
    for recording in (with_stacks, path):
        assert pte_trace("report", recording, "--html", tmp_path / "o.html").returncode == 0
        pages.append((tmp_path / "o.html").read_text())
    assert 'aria-label="mark&lt;int&gt;: 46 write faults, 92.0% of all"' in pages[0]
    assert "flames" not in re.sub(r"<script>.*?</script>", "", pages[1], flags=re.DOTALL)
    for text in pages:
        assert "default-src 'none'; script-src 'unsafe-inline'" in text


def test_stacks_of_two_recordings_are_compared(with_stacks: Path, tmp_path: Path) -> None:
    effort = Effort(stacks=1)
    fewer = replace(SEEN, stacks=(replace(STACKS[0], count=4),))
    other = recorded(
        tmp_path / "other.parquet",
        [interval(snapshot(fewer, effort=effort), 1)],
        metadata(effort, command=("./gc",)),
    )
    (found,) = json.loads(pte_trace("compare", with_stacks, other, "--format", "json").stdout)[
        "stacks"
    ]
    assert (found["recording"], found["per"]) == (1, "run")
    assert found["paths"] == [
        {
            "comm": "gc",
            "functions": ["mark<int>", "[unknown]"],
            "what": "other user [anon]",
            "write_faults": [46.0, 4.0],
            "difference": -42.0,
        },
        {
            "comm": "gc",
            "functions": [],
            "what": "wp_reuse remote [anon]",
            "write_faults": [4.0, 0.0],
            "difference": -4.0,
        },
    ]
    said = pte_trace("compare", with_stacks, other).stdout
    assert "46 to 4 (-42)  other user [anon] < mark<int> < [unknown] < gc" in said
    page_of = tmp_path / "compared.html"
    assert pte_trace("compare", with_stacks, other, "--html", page_of).returncode == 0
    assert "A 46, B 4 write faults a run: -42" in page_of.read_text()


def test_stacks_of_one_recording_alone_are_not_compared(with_stacks: Path, path: Path) -> None:
    found = json.loads(pte_trace("compare", with_stacks, path, "--format", "json").stdout)
    assert found["stacks"] == []
    assert "Different stacks, which are not compared: of all and none." in str(found)
