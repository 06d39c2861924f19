"""The benchmarks without a kernel that is traced: program, ratios, tables, what is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from pte_trace.bench import compiler, seed
from pte_trace.bench.results import Case, Faults, Macro, Micro, Times, Tracing, Write
from pte_trace.commands.bench import bench
from pte_trace.counted.counters import OUTCOMES
from pte_trace.counted.snapshot import Health, Kernel
from pte_trace.errors import HostError, PteTraceError
from pte_trace.views import bench as view
from tests.unit.test_cli import refused

KERNEL = Kernel("6.18.0-test", False)


def faults(**by_outcome: float) -> Faults:
    return Faults(tuple(by_outcome.get(outcome, 0) for outcome in OUTCOMES))


def write(average: float, taken: Faults | None = None) -> Write:
    return Write(Times(average - 1, average + 1000, average), taken)


CASE = Case(
    16384,
    "memset",
    {
        "first": write(41902.26, faults(other=4)),
        "second": write(1000, faults()),
        "mprotect": write(5000, faults(wp_reuse=4)),
        "soft_dirty": write(6250, faults(wp_reuse=4)),
    },
)
MICRO = Micro(KERNEL, 1000, True, (CASE,), Tracing(5, Health()))
MACRO = Macro(KERNEL, 1 << 30, 40, 3.78, faults(wp_reuse=262144), Tracing(2, Health()))


def without_soft_dirty() -> Micro:
    writes = {phase: each for phase, each in CASE.writes.items() if phase != "soft_dirty"}
    return replace(MICRO, soft_dirty=False, cases=(replace(CASE, writes=writes),))


def untraced() -> Micro:
    writes = {phase: replace(each, faults=None) for phase, each in CASE.writes.items()}
    return replace(MICRO, cases=(replace(CASE, writes=writes),), tracing=None)


def shown(result: Micro | Macro, style: str = "text") -> str:
    stream = io.StringIO()
    view.write(result, style, stream)
    return stream.getvalue()


def lines(result: Micro | Macro) -> list[str]:
    return [line.rstrip() for line in shown(result).splitlines()]


def test_ratios_are_of_the_averages() -> None:
    assert CASE.after_mprotect_to("second") == 5
    assert CASE.after_mprotect_to("soft_dirty") == 0.8
    assert without_soft_dirty().cases[0].after_mprotect_to("soft_dirty") is None


def test_the_report_tells_time_and_cause() -> None:
    assert lines(MICRO) == [
        "Linux 6.18.0-test, mprotect optimization absent",
        "1,000 iterations, untraced",
        "",
        "SIZE    WRITTEN  WRITE                MIN     MAX     AVG  /SECOND  /SOFT-DIRTY"
        "  FAULTS  REUSE  OTHER",
        "16 KiB  memset   first              42 µs   43 µs   42 µs                      "
        "       4      -      4",
        "16 KiB  memset   second              1 µs    2 µs    1 µs                      "
        "       -      -      -",
        "16 KiB  memset   after mprotect      5 µs    6 µs    5 µs     5.00         0.80"
        "       4      4      -",
        "16 KiB  memset   after soft-dirty  6.2 µs  7.2 µs  6.2 µs                      "
        "       4      4      -",
        "",
        "Faults are those of each of 5 more, traced.",
    ]


def test_without_soft_dirty_its_column_is_left_out_and_it_is_said() -> None:
    said = shown(without_soft_dirty())
    assert "SOFT-DIRTY" not in said
    assert "after soft-dirty" not in said
    assert "This kernel does not track soft-dirty pages" in said
    assert "to_soft_dirty" not in shown(without_soft_dirty(), "csv")


def test_without_tracing_no_faults_are_shown() -> None:
    said = shown(untraced())
    assert "FAULTS" not in said
    assert "--no-trace" in said
    (case,) = json.loads(shown(untraced(), "json"))["cases"]
    assert case["writes"]["first"]["write_faults"] is None
    assert "write_faults" not in shown(untraced(), "csv").splitlines()[0]


def test_faults_that_differ_between_iterations_keep_their_fraction() -> None:
    assert [view.count(each) for each in (0, 128, 262144, 1.2)] == ["-", "128", "262,144", "1.2"]


def test_lost_events_are_told() -> None:
    lossy = replace(MICRO, tracing=Tracing(5, Health(map_full=3, missed_runs=4)))
    assert "The tracing lost 7 events" in shown(lossy)
    assert json.loads(shown(lossy, "json"))["lost_events"] == 7


def test_json_has_everything_unrounded() -> None:
    document = json.loads(shown(MICRO, "json"))
    (case,) = document["cases"]
    assert document["kernel"] == {"release": "6.18.0-test", "optimization": False}
    assert (document["benchmark"], document["iterations"]) == ("micro", 1000)
    assert document["traced_iterations"] == 5
    assert case["writes"]["first"]["avg_ns"] == 41902.26
    assert case["writes"]["mprotect"]["write_faults"]["wp_reuse"] == 4
    assert case["mprotect_to"] == {"second": 5, "soft_dirty": 0.8}


def test_csv_has_a_line_per_write() -> None:
    rows = list(csv.DictReader(io.StringIO(shown(MICRO, "csv"))))
    assert [row["write"] for row in rows] == ["first", "second", "mprotect", "soft_dirty"]
    assert [row["to_second"] for row in rows] == ["", "", "5.0", ""]
    assert [row["write_faults_wp_reuse"] for row in rows] == ["0", "0", "4", "4"]


def test_the_macro_benchmark_is_two_sentences() -> None:
    assert lines(MACRO) == [
        "Linux 6.18.0-test, mprotect optimization absent",
        "1 GiB made read-only, writable again and rewritten 40 times: 3.78 s, untraced",
        "Write faults in each loop: 262,144 wp_reuse",
        "Faults are those of each of 2 more, traced.",
    ]
    none = replace(MACRO, faults=faults())
    assert "Write faults in each loop: none" in lines(none)
    (row,) = csv.DictReader(io.StringIO(shown(MACRO, "csv")))
    assert (row["seconds"], row["write_faults_wp_reuse"]) == ("3.78", "262144")


def test_a_time_has_two_digits() -> None:
    assert view.time(1899) == "1.9 µs"
    assert view.time(204379) == "200 µs"


def test_a_small_ratio_keeps_two_digits() -> None:
    assert [view.ratio(each) for each in (7.123, 0.14, 0.0042)] == ["7.12", "0.14", "0.0042"]


@pytest.mark.parametrize(
    ("size", "said"),
    [(4096, "4 KiB"), (12 << 20, "12 MiB"), (1 << 30, "1 GiB"), (1000 << 30, "1,000 GiB")],
)
def test_sizes_are_whole(size: int, said: str) -> None:
    assert view.size(size) == said


@pytest.mark.parametrize("size", ["0", "-1", "-4096", "0G", "1000", "1.5G", "many", ""])
def test_a_size_must_be_pages(size: str) -> None:
    assert "--size" in refused(bench, "--size", size)


@pytest.mark.parametrize(
    ("given", "size"), [("4096", 4096), ("64K", 65536), ("1g", 1 << 30), ("3M", 3 << 20)]
)
def test_a_size_has_a_unit(given: str, size: int) -> None:
    assert bench.make_context("bench", ["--size", given]).params["size"] == size


@pytest.mark.parametrize("option", ["--iterations", "--loops"])
@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many"])
def test_numbers_must_be_positive(option: str, number: str) -> None:
    assert option in refused(bench, option, number)


@pytest.mark.parametrize(
    "arguments",
    [["--loops", "3"], ["--size", "1M", "--iterations", "3"], ["--size", "999999G"]],
)
def test_options_that_cannot_be_together_are_refused(arguments: list[str]) -> None:
    with pytest.raises(PteTraceError) as caught:
        bench.main(arguments, standalone_mode=False)
    assert caught.value.exit_status == 2
    assert caught.value.mend


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiler.program(tmp_path_factory.mktemp("cache") / "bench")


def test_the_program_is_compiled_once(program: Path) -> None:
    before = program.stat().st_mtime_ns
    assert compiler.program(program.parent) == program
    assert program.stat().st_mtime_ns == before
    assert [path.name for path in program.parent.iterdir()] == [program.name]
    assert program.parent.stat().st_mode & 0o777 == 0o700


def test_a_program_that_others_may_write_is_compiled_anew(program: Path) -> None:
    content = program.read_bytes()
    program.write_bytes(b"something else")
    program.chmod(0o777)
    compiler.program(program.parent)
    assert program.read_bytes() == content


def test_no_compiler_is_one_sentence_and_how_to_mend_it(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        compiler.program(tmp_path, path=str(tmp_path))
    assert caught.value.mend == "sudo apt install gcc libc6-dev"


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    fake = tmp_path / "cc"
    fake.write_text("#!/bin/sh\necho fatal error: stdio.h >&2\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(HostError, match=r"fatal error: stdio\.h"):
        compiler.program(tmp_path / "bench", path=str(tmp_path))
    assert not list((tmp_path / "bench").iterdir())


@pytest.mark.parametrize("how", ["writable", "link"])
def test_nothing_is_put_or_run_where_another_user_could_replace_it(
    tmp_path: Path, how: str
) -> None:
    directory = tmp_path / "bench"
    compiler.program(directory)
    if how == "link":
        directory.symlink_to(directory.rename(tmp_path / "theirs"))
    else:
        directory.chmod(0o777)
    with pytest.raises(HostError, match="Another user could replace the benchmark"):
        compiler.program(directory)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "bench").write_text("a file")
    with pytest.raises(HostError, match="could not be put into"):
        compiler.program(tmp_path / "bench")


def test_the_program_measures_every_phase(program: Path) -> None:
    run = seed.timed(program, ("micro", 3, 4096, 12288))
    assert [(result["size"], result["access"]) for result in run.results] == [
        (4096, "memset"),
        (4096, "byte_per_page"),
        (12288, "memset"),
        (12288, "byte_per_page"),
    ]
    phases = ["first", "second", "mprotect", *(["soft_dirty"] if run.soft_dirty else [])]
    for result in run.results:
        assert list(result["phases"]) == phases
        for times in result["phases"].values():
            assert 0 < times["min_ns"] <= times["max_ns"] <= times["total_ns"]


def test_the_program_times_the_loops(program: Path) -> None:
    (result,) = seed.timed(program, ("macro", 1 << 20, 2)).results
    assert (result["size"], result["loops"]) == (1 << 20, 2)
    assert result["total_ns"] > 0


def test_a_watched_program_stops_at_both_edges_of_each_write(program: Path) -> None:
    done = subprocess.run(
        [program, "watched", "micro", "2", "4096"],
        input="\n" * 100,
        capture_output=True,
        text=True,
        check=True,
    )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    edges = [(each["edge"], each["phase"]) for each in messages if "edge" in each]
    phases = ["first", "second", "mprotect", *(["soft_dirty"] if messages[0]["soft_dirty"] else [])]
    assert edges == [(edge, phase) for phase in phases for edge in ("begin", "end")] * 4


def test_a_watched_program_ends_with_its_watcher(program: Path) -> None:
    done = subprocess.run(
        [program, "watched", "micro", "2", "4096"], input="", capture_output=True, check=False
    )
    assert done.returncode == 1


def test_a_program_that_fails_is_told(program: Path) -> None:
    with pytest.raises(PteTraceError, match="Cannot allocate memory"):
        seed.timed(program, ("macro", 1 << 46, 1))


def test_a_program_that_is_killed_is_told(tmp_path: Path) -> None:
    fake = tmp_path / "seed"
    fake.write_text("#!/bin/sh\nkill -KILL $$\n")
    fake.chmod(0o755)
    with pytest.raises(PteTraceError, match="ended by SIGKILL"):
        seed.timed(fake, ())


def test_a_program_that_may_not_run_is_told(tmp_path: Path) -> None:
    fake = tmp_path / "seed"
    fake.write_text("no program")
    os.chmod(fake, 0o644)
    with pytest.raises(HostError, match="cannot be executed"):
        seed.timed(fake, ())
