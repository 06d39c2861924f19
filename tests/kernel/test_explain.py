"""`explain` on a real kernel: what it finds, and from where in the program it says that came.

Through kprobes: how all other tests trace is the plan's own choice.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pte_trace.host import behavior
from tests.kernel.conftest import WORKLOADS, Finished

Command = Callable[..., Finished]

PLACE = "0x600000000000"
PAGES = 23
TOGGLER = f"""
import ctypes, mmap, time
protect = ctypes.CDLL(None).mprotect
protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
size = {PAGES} * 4096
memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
while True:
    memory[:] = b"x" * size
    protect(address, size, 1)
    protect(address, size, 3)
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The story of three workloads that are gone when it is told."""
    path = tmp_path_factory.mktemp("explain") / "why.json"
    script = "; ".join(
        f"{WORKLOADS}/{each} {PAGES}" for each in ("toggle", "fork_child", "uffd_wp")
    )
    options = ["--stacks", "--attach", "kprobe", "--format", "json", "-o", path]
    # A kretprobe of Linux 5.10 has room for one call on each CPU, and a fault that waits for its
    # file to be read takes it. So all that runs is read once before.
    for _ in range(2):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pte_trace", "explain", *map(str, options)),
                *("--", "sh", "-c", f"{script}; echo err >&2; exit 7"),
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert (done.returncode, done.stderr) == (7, "err\n")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def story(document: dict[str, Any], comm: str) -> dict[str, Any]:
    """Of the mapping that the workload is about."""
    pids = {row["pid"]: row["comm"] for row in document["processes"]}
    (found,) = (
        each
        for each in document["explanations"]
        if each["start"] == PLACE and pids[each["pid"]] == comm and each["findings"]
    )
    return dict(found)


def findings(document: dict[str, Any], comm: str) -> dict[str, dict[str, Any]]:
    found = story(document, comm)["findings"]
    return {each["finding"]: each["evidence"] for each in found}


def calls(document: dict[str, Any], comm: str) -> list[tuple[str, int, list[str]]]:
    """Cause, number and functions of the calls, without the offsets in the functions."""
    return sorted(
        (
            site["cause"],
            site["calls"],
            [str(frame["function"]).split("+")[0] for frame in site["frames"]],
        )
        for site in story(document, comm)["call_sites"]
    )


def test_kprobes_count_the_same(document: dict[str, Any], optimized: bool) -> None:
    (row,) = (row for row in document["vmas"] if row["start"] == PLACE and row["comm"] == "toggle")
    expected = {"other": PAGES} | ({} if optimized else {"wp_reuse": PAGES})
    faults = {name: number for name, number in row["write_faults"].items() if number}
    assert (faults, document["health"]["missed_runs"]) == (expected, 0)
    assert row["ptes_changed"] == 2 * PAGES
    assert row["ptes_made_writable"] == (PAGES if optimized else 0)
    assert {hook["how"] for hook in document["hooks"].values()} == {"kprobe"}
    assert document["kernel"]["optimization"] is optimized


def test_what_the_optimization_did_is_told(document: dict[str, Any], optimized: bool) -> None:
    found = findings(document, "toggle")
    if optimized:
        assert set(found) == {"saved", "first_touch"}
        assert found["saved"]["ptes_made_writable"] == PAGES
    else:
        assert set(found) == {"no_optimization", "first_touch"}
        assert found["no_optimization"]["wp_protected_by.wp_reuse.mprotect"] == PAGES
    assert found["first_touch"]["write_faults.other"] == PAGES


def test_a_living_child_is_told(document: dict[str, Any], optimized: bool) -> None:
    found = findings(document, "fork_child")
    assert set(found) == {"fork", "first_touch"} | ({"not_exclusive"} if optimized else set())
    assert found["fork"]["wp_protected_by.wp_copy.fork"] == PAGES
    assert found["fork"]["ptes_protected_by_fork"] == PAGES
    assert found["fork"]["children_traced"] == 1
    if optimized:
        assert found["not_exclusive"]["ptes_left_readonly.shared"] == PAGES


def test_userfaultfd_is_told(document: dict[str, Any]) -> None:
    found = findings(document, "uffd_wp")
    assert found["uffd_wp"]["write_faults.wp_uffd"] == PAGES
    assert found["uffd_wp"]["protection_changes.uffd_wp"] == 1


def test_the_kernel_is_told_as_it_was_found(document: dict[str, Any], optimized: bool) -> None:
    seen = behavior.observe()
    told = dict(document["behavior"])
    assert told.pop("reuse_fault_ns") > 0
    assert told == {
        "optimization": optimized,
        "clean_pages": seen.clean_pages,
        "huge_pages": seen.huge_pages,
        "soft_dirty": seen.soft_dirty,
    }
    assert (document["stacks"]["one_of"], document["stacks"]["lost"]) == (1, 0)


@pytest.mark.parametrize("comm", ["toggle", "fork_child"])
def test_the_callers_of_mprotect_are_named(document: dict[str, Any], comm: str) -> None:
    """Both calls are made by main(), into which protect() was inlined."""
    found = calls(document, comm)
    assert [(cause, number) for cause, number, _ in found] == [("mprotect", 1)] * 2
    for _, _, functions in found:
        assert functions[:2] == ["mprotect", "main"]
    files = [frame["file"] for frame in story(document, comm)["call_sites"][0]["frames"]]
    assert Path(files[0]).name.startswith("libc")
    assert files[1] == str((WORKLOADS / comm).resolve())


def test_the_callers_of_userfaultfd_are_named(document: dict[str, Any]) -> None:
    """One call protects all; the monitor lifts it page by page."""
    (armed,) = (each for each in calls(document, "uffd_wp") if each[0] == "uffd_wp")
    lifted = [each for each in calls(document, "uffd_wp") if each[0] == "uffd_unprotect"]
    assert armed[1] == 1
    assert armed[2][0] == "ioctl"
    assert sum(number for _, number, _ in lifted) == PAGES
    assert {functions[0] for _, _, functions in lifted} == {"ioctl"}


def test_every_call_is_counted(document: dict[str, Any]) -> None:
    """But those of execve(), which another image made."""
    for vma, told in zip(
        sorted(document["vmas"], key=lambda each: (each["pid"], each["start"])),
        sorted(document["explanations"], key=lambda each: (each["pid"], each["start"])),
        strict=True,
    ):
        if vma["kind"] == "file":
            changes = sum(vma["protection_changes"].values())
            assert sum(site["calls"] for site in told["call_sites"]) == changes, vma["name"]


@pytest.mark.once
def test_through_fentry_the_callers_are_the_same(pte_trace: Command, tmp_path: Path) -> None:
    path = tmp_path / "why.json"
    options = ["--stacks", "--attach", "fentry", "--format", "json", "-o", path]
    done = pte_trace("explain", *options, "--", WORKLOADS / "toggle", PAGES)
    assert done.status == 0, done.stderr
    found = calls(json.loads(path.read_text()), "toggle")
    assert [functions[:2] for _, _, functions in found] == [["mprotect", "main"]] * 2


@pytest.mark.once
def test_a_process_that_runs_already_is_explained(pte_trace: Command) -> None:
    with subprocess.Popen([sys.executable, "-c", TOGGLER]) as process:
        done = pte_trace("explain", "--stacks", "-p", process.pid, "-d", 2)
        process.kill()
    assert done.status == 0, done.stderr
    assert f"Process {process.pid}, " in done.stdout
    assert " × mprotect+0x" in done.stdout
    assert " (libffi.so" in done.stdout
    assert "The optimization made" in done.stdout
