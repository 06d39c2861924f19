"""Who writes, on a real kernel: each stack's count is exact, and they add up to the faults."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import WORKLOADS, Finished

Command = Callable[..., Finished]

PLACE = "0x600000000000"
FEW, MANY = 23, 46
READ, REMOTE = 19, 13
# Protection is changed all the time, so that some change is in the middle of each reading.
TOGGLER = """
import ctypes, mmap, time
protect = ctypes.CDLL(None).mprotect
protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
memory = mmap.mmap(-1, 29 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
while True:
    for page in range(29):
        memory[4096 * page] = 1
    protect(address, 29 * 4096, 1)
    protect(address, 29 * 4096, 3)
"""


def traced(path: Path, command: str, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pte_trace", command, "--format", "json", "-o", str(path)),
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("stacks") / "writers.json"
    return traced(path, "run", "--stacks", "--", WORKLOADS / "writers", FEW)


def mapping(document: dict[str, Any], comm: str = "writers", number: int = 0) -> dict[str, Any]:
    """The mappings that the workload makes, in their order: of the process that made them."""
    pid = min(row["pid"] for row in document["vmas"] if row["comm"] == comm)
    found = [
        row
        for row in document["vmas"]
        if row["pid"] == pid and int(row["start"], 16) >= int(PLACE, 16) and row["kind"] == "anon"
    ]
    return dict(sorted(found, key=lambda row: int(row["start"], 16))[number])


def stacks_of(document: dict[str, Any], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Of its write faults."""
    return [
        each
        for each in document["stacks"]["stacks"]
        if (each["pid"], each["start"]) == (row["pid"], row["start"]) and each["outcome"]
    ]


def first(stack: dict[str, Any]) -> str:
    """The function that wrote, or that called the kernel, without the offset in it."""
    return str(stack["frames"][0]["function"]).split("+")[0] if stack["frames"] else ""


def by_writer(document: dict[str, Any], row: dict[str, Any]) -> dict[tuple[str, str, str], int]:
    found: Counter[tuple[str, str, str]] = Counter()
    for each in stacks_of(document, row):
        found[each["outcome"], each["origin"], first(each)] += each["count"]
    return dict(found)


def test_each_writers_faults_are_exact(document: dict[str, Any]) -> None:
    assert by_writer(document, mapping(document)) == {
        (outcome, "user", function): pages
        for outcome in ("other", "wp_reuse", "wp_copy")
        for function, pages in (("write_few", FEW), ("write_many", MANY))
    }


def test_the_faulting_instruction_is_one(document: dict[str, Any]) -> None:
    """Each function writes with one: its address is exact, not that of the next."""
    for each in stacks_of(document, mapping(document)):
        assert each["count"] in (FEW, MANY)
        assert each["frames"][0]["file"] == str((WORKLOADS / "writers").resolve())


def test_what_the_kernel_and_another_process_write_is_told_apart(document: dict[str, Any]) -> None:
    found = by_writer(document, mapping(document, number=1))
    ((remote, pages),) = ((key, pages) for key, pages in found.items() if key[1] == "remote")
    assert (remote, pages) == (("other", "remote", ""), REMOTE)
    ((kernel, pages),) = ((key, pages) for key, pages in found.items() if key[1] == "kernel")
    assert kernel[:2] == ("other", "kernel")
    assert "read" in kernel[2]
    assert pages == READ
    assert len(found) == 2


def test_stacks_add_up_to_the_faults_of_each_outcome(document: dict[str, Any]) -> None:
    assert document["stacks"]["one_of"] == 1
    assert document["stacks"]["lost"] == 0
    for row in document["vmas"]:
        found: Counter[str] = Counter()
        for each in stacks_of(document, row):
            found[each["outcome"]] += each["count"]
        assert +found == +Counter(row["write_faults"]), row["name"]


def test_what_runs_already_has_as_many_calls_as_changes(tmp_path: Path) -> None:
    """Both of the same interval, however often protection is changed at its ends."""
    with subprocess.Popen([sys.executable, "-c", TOGGLER]) as process:
        found = traced(tmp_path / "why.json", "explain", "--stacks", "-p", process.pid, "-d", 2)
        process.kill()
    rows = {row["start"]: row for row in found["vmas"]}
    calls = 0
    for told in found["explanations"]:
        by_cause: Counter[str] = Counter()
        for each in told["call_sites"]:
            by_cause[each["cause"]] += each["calls"]
        assert +by_cause == +Counter(rows[told["start"]]["protection_changes"]), told["name"]
        calls += by_cause.total()
    assert calls > 10
    for row in found["vmas"]:
        faults = sum(each["count"] for each in stacks_of(found, row))
        assert faults == sum(row["write_faults"].values()), row["name"]


@pytest.mark.of_32_bits
def test_the_first_frames_of_a_32_bit_program_are_right(tmp_path: Path) -> None:
    document = traced(tmp_path / "of32.json", "explain", "--stacks", "--", WORKLOADS / "stacks32")
    (row,) = (row for row in document["vmas"] if row["start"] == "0x61000000")
    found = by_writer(document, row)
    assert {key[1:] for key in found} == {("user", "write_it")}
    assert sum(found.values()) == sum(row["write_faults"].values())
    (told,) = (each for each in document["explanations"] if each["start"] == row["start"])
    called = [
        ([str(frame["function"]).split("+")[0] for frame in each["frames"]], each["calls"])
        for each in told["call_sites"]
    ]
    assert sorted(called) == [(["lock_it", "_start"], 5), (["unlock_it", "_start"], 5)]


@pytest.mark.once
def test_a_sample_is_told_as_one(pte_trace: Command, tmp_path: Path) -> None:
    pages = 2000
    found = traced(
        tmp_path / "sample.json", "run", "--stacks", "1/10", "--", WORKLOADS / "writers", pages
    )
    row = mapping(found)
    assert found["stacks"]["one_of"] == 10
    noted = sum(each["count"] for each in stacks_of(found, row))
    # A tenth of 18,000, and nine standard deviations of a binomial distribution around it.
    assert sum(row["write_faults"].values()) == 9 * pages
    assert abs(noted - 9 * pages // 10) < 9 * (18000 * 0.1 * 0.9) ** 0.5
    text = pte_trace("run", "--stacks", "1/10", "--", WORKLOADS / "writers", pages).stderr
    assert "a sample: one of 10 write faults" in text
