"""Every example of the README and of docs/, typed as it stands there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import WORKLOADS

PROJECT = Path(__file__).parents[2]
GUIDE = PROJECT / "docs/guide.md"
DOCUMENTS = (PROJECT / "README.md", *sorted(PROJECT.glob("docs/*.md")))
# These go on until they are ended; the lab is of the machine outside the guest.
_RECORD = "sudo pte-trace record -o machine.parquet -i 10"
_ENDLESS = {"sudo pte-trace", "sudo pte-trace serve", _RECORD}
_OUTSIDE = "pte-trace lab"
_PID = 1234
_PREPARED = {
    "program": f"#!/bin/sh\nexec {WORKLOADS}/toggle 23\n",
    "Makefile": "all:\n\t./program\n",
    "bin/sudo": '#!/bin/sh\nexec "$@"\n',
    "bin/pte-trace": f'#!/bin/sh\nexec {sys.executable} -m pte_trace "$@"\n',
}


def examples() -> list[str]:
    """The commands, each once, without what is said of it in the next column."""
    lines = (line for each in DOCUMENTS for line in each.read_text("utf-8").splitlines())
    commands = (line.strip().split("  ")[0] for line in lines if line.startswith("    "))
    found = (each for each in commands if re.match(r"(sudo )?pte-trace\b(?!:)", each))
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the examples are typed: it has what they name, also the process 1234."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "bin").mkdir()
    for name, content in _PREPARED.items():
        (directory / name).write_text(content)
        (directory / name).chmod(0o755)
    before = os.getcwd()
    os.chdir(directory)
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(_PID - 1))
    with subprocess.Popen(["sleep", "3600"]) as process:
        assert process.pid == _PID
        yield directory
        process.kill()
    os.chdir(before)


@pytest.mark.once
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", [e for e in examples() if not e.startswith(_OUTSIDE)])
def test_the_example_works(directory: Path, command: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{directory}/bin:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
    }
    with subprocess.Popen(
        f"exec {command}",  # else Ctrl-C would end the shell, whatever the command makes of it
        shell=True,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        said = _end(process, command, directory) if command in _ENDLESS else process.stdout.read()
    allowed = (0, 130) if command in _ENDLESS else (0,)
    assert process.returncode in allowed, said
    assert "Traceback" not in said


def _end(process: subprocess.Popen[str], command: str, directory: Path) -> str:
    """Press Ctrl-C once it is at work."""
    assert process.stdout is not None
    begun = ""
    if command == _RECORD:
        recording = directory / "machine.parquet"
        while not recording.exists() or not recording.stat().st_size:
            assert process.poll() is None
    else:
        begun = process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    return begun + process.stdout.read()


@pytest.mark.once
def test_the_notebook_example_works(directory: Path) -> None:
    """After the recordings above were made."""
    code = re.search(r"((?:    .*pte_trace.*\n|    frame.*\n)+)", GUIDE.read_text("utf-8"))
    assert code is not None
    lines = "\n".join(line.strip() for line in code[1].splitlines())
    done = subprocess.run(
        [sys.executable, "-c", lines.replace("frame.groupby", "print(frame.groupby") + ")"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "[anon]" in done.stdout
