"""What who calls us may have set or taken away: it works, or there is one sentence why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.attack.bounded import ROOT, Ended, pte_trace, run, simulated
from tests.builders import snapshot
from tests.recordings import interval, recorded
from tests.simulated import RECORDS

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "run": ("run", "--format", "json", "--", "true"),
    "text": ("run", "--", "true"),
    "top": ("top", "-n", "1", "-i", "0.1"),
    "record": ("record", "-o", "r.parquet", "--", "true"),
    "report": ("report", "given.parquet"),
    "page": ("report", "given.parquet", "--html", "page.html"),
    "doctor": ("doctor",),
    "lab": ("lab", "list"),
}
commands = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    recorded(tmp_path / "given.parquet", [interval(snapshot(*RECORDS[:1]))])
    return tmp_path


def in_shell(before: str, command: str, place: Path, **environ: str) -> Ended:
    """*command* of COMMANDS, in a shell that first does something."""
    words = [sys.executable, "-m", "tests.simulated", "--plain", *COMMANDS[command]]
    return run(
        ["bash", "-c", f'{before} "$@"', "bash", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
    )


@pytest.mark.parametrize("closed", [0, 1, 2, 3, 4, 5, 6, 7])
@commands
def test_closed_streams(place: Path, command: str, closed: int) -> None:
    """Each way of closing some of the three. Only what cannot be written is a failure."""
    which = [number for number in range(3) if closed & 1 << number]
    shell = " ".join(f"{number}>&-" for number in which)
    ended = in_shell(f"exec {shell};" if shell else "", command, place)
    assert "Traceback" not in ended.stderr
    needs_stdout = command in ("run", "top", "report", "doctor", "lab")
    # The doctor says by its status that this machine cannot be traced, if it cannot.
    if command != "doctor":
        assert ended.status == int(needs_stdout and 1 in which), ended
    elif 1 in which:
        assert ended.status
    if needs_stdout and which == [1] and command != "doctor":
        said = "pte-trace: The output cannot be written: Bad file descriptor.\n"
        assert ended.stderr.startswith(said)
    if not which and command == "run":
        json.loads(ended.stdout)


@commands
def test_a_full_output(place: Path, command: str) -> None:
    ended = in_shell("exec >/dev/full;", command, place)
    if command in ("run", "top", "report", "lab"):
        ended.check(1)
        assert "cannot be written: No space left on device" in ended.stderr
    else:
        ended.check()


@pytest.mark.parametrize(
    "limit", ["-v 65536", "-v 131072", "-v 200000", "-v 300000", "-v 400000", "-v 524288"]
)
@pytest.mark.parametrize("command", ["text", "record", "page"])
def test_little_memory_is_told(place: Path, command: str, limit: str) -> None:
    """Without a simulated kernel: to make one takes memory before pte-trace begins."""
    words = [sys.executable, "-m", "pte_trace", *COMMANDS[command]]
    ended = run(
        ["bash", "-c", f'ulimit {limit}; "$@"', "bash", *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    ended.check(0, 3)
    if limit == "-v 65536" and command != "text":
        assert ended.stderr.startswith("pte-trace: Memory ran out.")


@pytest.mark.parametrize("limit", ["-n 8", "-n 16", "-f 1", "-s 256", "-c 0", "-l 0"])
@pytest.mark.parametrize("command", ["run", "record", "page"])
def test_a_limit_is_kept_to_or_told(place: Path, command: str, limit: str) -> None:
    in_shell(f"ulimit {limit};", command, place).check(0, 1, 2, 3)


@pytest.mark.skipif(os.geteuid() != 0, reason="who else may have been told to start nothing")
def test_no_more_processes_than_there_are(place: Path) -> None:
    words = (sys.executable, "-m", "tests.simulated", *COMMANDS["run"])
    user = ("setpriv", "--reuid=4242", "--clear-groups", "prlimit", "--nproc=1")
    ended = run([*user, *words], env={**os.environ, "PYTHONPATH": str(ROOT)})
    ended.check(0, 1, 3, 126)


ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "no variable": {},
    "no home": {"PATH": os.environ["PATH"]},
    "a home that is none": {"HOME": "/dev/null", "XDG_CACHE_HOME": "/proc/nowhere"},
    "a home of anything": {"HOME": "\x1b[2J\udcff", "XDG_CACHE_HOME": ""},
    "a language that is none": {"LANG": "xx_YY.nonsense", "LC_ALL": "\x1b[31m"},
    "another encoding": {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    "a terminal that is none": {"TERM": "no-such-terminal", "COLUMNS": "999999999"},
    "a terminal of nothing": {"TERM": "", "COLUMNS": "-1", "LINES": "nonsense"},
    "colours": {"FORCE_COLOR": "1", "COLORTERM": "truecolor", "TERM": "xterm-256color"},
    "no temporary directory": {"TMPDIR": "/proc/nowhere", "TMP": "", "TEMP": "\n"},
    "debugging": {"PTE_TRACE_DEBUG": "1", "PTE_TRACE_LAB_CACHE": "/dev/null/x"},
    "a time zone that is none": {"TZ": ":/dev/zero"},
    "a thousand variables": {f"V{number}": "x" * 100 for number in range(1000)},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("command", ["text", "record", "report", "lab"])
def test_variables_of_anything(place: Path, command: str, environment: str) -> None:
    words = [sys.executable, "-m", "tests.simulated", "--plain", *COMMANDS[command]]
    variables = {"PYTHONPATH": str(ROOT), **ENVIRONMENTS[environment]}
    ended = run(words, cwd=place, env=variables)
    if command in ("lab", "doctor"):
        ended.check(0, 3)
    else:
        ended.check(0)


def gone(place: Path) -> str:
    """A shell's words that leave it in a directory that is not there any more."""
    return f"mkdir {place}/gone; cd {place}/gone; rmdir {place}/gone;"


@commands
def test_a_directory_that_is_gone(place: Path, command: str) -> None:
    ended = in_shell(gone(place), command, place)
    if command in ("record", "report", "page"):
        ended.check(2)  # their files cannot be there
    else:
        ended.check()
        assert "getcwd" not in ended.stderr


@commands
def test_a_directory_with_a_long_path(place: Path, command: str) -> None:
    deep = "/".join(["y" * 120] * 3)
    (place / deep).mkdir(parents=True)
    (place / "given.parquet").rename(place / deep / "given.parquet")
    ended = in_shell(f"cd {deep};", command, place)
    if command in ("doctor", "lab"):
        ended.check()
    else:
        ended.check(0)


@pytest.mark.parametrize("directory", ["gone", "deep"])
def test_the_compiler_does_not_see_where_we_were_called(place: Path, directory: str) -> None:
    """BCC asks for its working directory, and has room for 256 bytes."""
    deep = place / ("y" * 120) / ("z" * 150)
    deep.mkdir(parents=True)
    script = (
        "import os, sys; from pathlib import Path\n"
        "from pte_trace.programs import compiler, image\n"
        "os.chdir(sys.argv[1])\n"
        f"{directory!r} == 'gone' and os.rmdir(sys.argv[1])\n"
        "compiler.__file__ = sys.argv[2]\n"
        "print(image._compiled(b'').decode())"
    )
    (place / "compiler.py").write_text("import os; print(os.getcwd())")
    ended = run(
        [sys.executable, "-c", script, deep, place / "compiler.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ).check(0)
    assert ended.stdout.strip() == "/"


def test_a_standard_input_of_anything(place: Path) -> None:
    with Path("/dev/urandom").open("rb") as noise:
        simulated(*COMMANDS["top"], cwd=place, stdin=noise).check(0)
    simulated(*COMMANDS["run"], cwd=place, stdin=subprocess.DEVNULL).check(0)


def test_this_machine_is_told_of_in_a_sentence(place: Path) -> None:
    """Whether it can be traced or not."""
    pte_trace("doctor", cwd=ROOT).check(0, 3)
