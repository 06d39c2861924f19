"""Programs and disks of strangers: the report comes, and what it could not have is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attack.bounded import MOST_MB, Ended, run
from tests.attack.elf_files import HOSTILE
from tests.kernel.conftest import WORKLOADS

pytestmark = [pytest.mark.once, pytest.mark.timeout(900)]

PAGES = 23
PLACE = "0x600000000000"
EXPLAIN = (sys.executable, "-m", "pte_trace", "explain", "--stacks", "--format", "json")


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """The compiler takes more memory than is to be measured here; what it made is kept."""
    subprocess.run([*EXPLAIN, "--", "true"], check=True, stdout=subprocess.DEVNULL)


def explained(path: Path, *words: object) -> tuple[Ended, Any]:
    ended = run([*EXPLAIN, "-o", path, *map(str, words)], given_up_s=300)
    assert ended.status == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.peak_mb < MOST_MB
    return ended, json.loads(path.read_text())


def frames(document: Any) -> list[dict[str, Any]]:
    """Of the calls that changed the workload's mapping."""
    return [
        frame
        for each in document["explanations"]
        if each["start"] == PLACE
        for site in each["call_sites"]
        for frame in site["frames"]
    ]


@pytest.mark.parametrize(
    "what",
    [
        "1,000 symbols with one name of 20 MB",
        "60,000 sections that are one table",
        "a build ID of 4 GiB",
        "a table of a terabyte",
        "functions that are everywhere",
        "a name that writes to the terminal",
    ],
)
def test_a_hostile_program_is_explained(tmp_path: Path, what: str) -> None:
    program = HOSTILE[what]().write(tmp_path / "hostile", (WORKLOADS / "toggle").read_bytes())
    program.chmod(0o755)
    _, document = explained(tmp_path / "why.json", "--", program, PAGES)
    (row,) = (row for row in document["vmas"] if row["start"] == PLACE)
    assert row["protection_changes"]["mprotect"] == 2
    found = frames(document)
    libc = [each for each in found if each["file"] and Path(each["file"]).name.startswith("libc")]
    assert [str(each["function"]).split("+")[0] for each in libc[:2]] == ["mprotect"] * 2, libc
    theirs = [each for each in found if each["file"] == str(program)]
    assert len(theirs) >= 2
    assert all((each["function"] is None) is (each["unnamed"] is not None) for each in theirs)


@pytest.mark.parametrize("put", ["mkfifo", "mkdir", "ln -s /dev/zero", "cp /bin/sh"])
def test_what_is_put_in_a_programs_place_is_not_read(tmp_path: Path, put: str) -> None:
    """When it is looked for, the program has another file's name, or none."""
    program = tmp_path / "program"
    program.write_bytes((WORKLOADS / "toggle").read_bytes())
    program.chmod(0o755)
    script = f"{program} {PAGES}; mv {program} {program}.before; {put} {program}"
    _, document = explained(tmp_path / "why.json", "--", "sh", "-c", script)
    theirs = [each for each in frames(document) if each["file"] == str(program)]
    assert theirs
    assert {each["function"] for each in theirs} == {None}
    assert all(each["unnamed"] for each in theirs)


# Toggles a page for ever, having mapped as many files' pages as it may.
CROWDED = """
import ctypes, mmap, sys, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
file = open("/proc/self/exe", "rb").fileno()
for number in range(60_000):
    libc.mmap(None, 4096, 5, 2, file, number % 2 * 4096)
print("ready", flush=True)
while True:
    for protection in (1, 3):
        libc.mprotect(page, 4096, protection)
    time.sleep(0.01)
"""


@pytest.fixture
def crowded() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", CROWDED], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.kill()


def test_a_process_with_more_mappings_than_are_looked_at(tmp_path: Path, crowded: int) -> None:
    _, document = explained(tmp_path / "why.json", "-d", 2, "-p", crowded)
    assert document["totals"]["protection_changes"]["mprotect"] > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """With room for a few intervals."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_said_at_once_and_the_command_goes_on(small_disk: Path) -> None:
    path = small_disk / "r.parquet"
    (small_disk / "other").write_bytes(bytes(40 << 10))
    script = f"for n in 1 2 3 4 5 6 7 8; do {WORKLOADS}/toggle {PAGES}; sleep 1; done; echo done"
    record = (sys.executable, "-m", "pte_trace", "record", "-i", "0.2", "-o", path)
    with subprocess.Popen(
        [*record, "--", "sh", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stderr.readline()
        assert said.startswith(f"pte-trace: {path} cannot be written: No space left on device.")
        assert process.poll() is None
        assert process.stdout.read().splitlines()[-1] == "done"
        rest = process.stderr.read()
    assert process.returncode == 1
    assert "not recorded" in rest
    (small_disk / "other").unlink()
    command = [sys.executable, "-m", "pte_trace", "report", "--format", "json", str(path)]
    report = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(report.stdout)["recording"]["intervals"] >= 1


def test_a_full_disk_without_a_command_ends_it(small_disk: Path) -> None:
    path = small_disk / "r.parquet"
    (small_disk / "other").write_bytes(bytes(40 << 10))
    record = [sys.executable, "-m", "pte_trace", "record", "-i", "0.2", "-o", str(path)]
    ended = subprocess.run(record, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 1
    assert "cannot be written: No space left on device." in ended.stderr
    assert "Traceback" not in ended.stderr
