"""The command line on a real kernel: filters, formats, exit status."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.conftest import GUEST, WORKLOADS, Finished
from tests.kernel.ground import cgroup, inside
from tests.terminal import Terminal

PAGE = 4096

Command = Callable[..., Finished]


@pytest.mark.once
def test_the_comm_filter_acts(pte_trace: Command) -> None:
    script = f"{WORKLOADS}/toggle 5 >&2; {WORKLOADS}/fork_child 5 >&2"
    done = pte_trace("run", "--format", "csv", "-c", "toggle", "--", "sh", "-c", script)

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["comm"] for row in rows} == {"toggle"}
    assert any(row["start"] == "0x600000000000" for row in rows)


@pytest.fixture
def roots_alone() -> Iterator[Path]:
    """A directory that nobody else can change, nor one above it; so it is not in /tmp."""
    with tempfile.TemporaryDirectory(dir="/run") as directory:
        yield Path(directory)


@pytest.mark.once
def test_what_was_compiled_is_used_again(
    pte_trace: Command, roots_alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(roots_alone))
    kept, counted = [], []
    for _ in range(2):
        done = pte_trace("run", "--format", "json", "--", WORKLOADS / "toggle", 23)
        *_, found = map(json.loads, done.stdout.splitlines())
        (row,) = (row for row in found["vmas"] if row["start"] == "0x600000000000")
        counted.append((row["ptes_changed"], row["write_faults"], row["ptes_made_writable"]))
        kept.append(sorted(each.name for each in roots_alone.glob("*/programs/*")))

    assert len(kept[0]) == 1
    assert kept[0] == kept[1]
    assert counted[0] == counted[1]
    assert counted[0][0] == 2 * 23


@pytest.mark.once
def test_the_cgroup_filter_includes_descendants(pte_trace: Command, tmp_path: Path) -> None:
    with cgroup(tmp_path) as outer:
        inner = outer / "inner"
        inner.mkdir()
        inside_it = shlex.join(inside(inner, WORKLOADS / "fork_child", 5))
        script = f"{WORKLOADS}/toggle 5 >&2; {inside_it} >&2"
        done = pte_trace("run", "--format", "csv", "--cgroup", outer, "--", "sh", "-c", script)
        inner.rmdir()

    assert done.status == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert "fork_child" in {row["comm"] for row in rows}
    assert "toggle" not in {row["comm"] for row in rows}


@pytest.mark.once
def test_top_of_one_process_ends_with_it(pte_trace: Command) -> None:
    code = "import time,mmap\nwhile True: m=mmap.mmap(-1,4096*7); m[0]=1; time.sleep(.5)"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        done = pte_trace("top", "-p", process.pid, "--format", "json", "-i", 1, "-n", 2)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(documents) == 2
        assert {row["pid"] for document in documents for row in document["processes"]} == {
            process.pid
        }
        process.kill()


@pytest.mark.once
def test_top_stops_when_its_process_is_gone(pte_trace: Command) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        tracer = subprocess.Popen(
            [sys.executable, "-m", "pte_trace", "top", "-p", str(process.pid)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert tracer.stdout is not None
        assert tracer.stdout.readline().startswith("Linux ")
        process.kill()
    assert tracer.wait(timeout=60) == 0
    tracer.stdout.close()


@pytest.mark.once
def test_top_on_a_terminal_shows_what_happens_and_leaves_it_as_it_was() -> None:
    with Terminal([sys.executable, "-m", "pte_trace", "top", "-i", "0.5"], 200) as terminal:
        shown = terminal.wait(lambda shown: any("python" in line for line in shown[2:]))
        assert "RANGE" in shown[1]
        terminal.press("a")
        terminal.wait(lambda shown: any("since the start" in line for line in shown))
        terminal.resize(40, 10)
        terminal.wait(lambda shown: "FAULTS" in shown[1] and "RANGE" not in shown[1])
        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.as_before()


@pytest.mark.once
def test_a_process_that_ends_while_the_programs_are_made_is_told(pte_trace: Command) -> None:
    with subprocess.Popen(["true"]) as process:
        # Not waited for: there is such a process, but it has ended.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        done = pte_trace("top", "-p", process.pid)
    assert done.status == 1
    assert done.stderr.startswith(f"pte-trace: Process {process.pid} ended before its tracing")


SPLITS = """
import ctypes, mmap
page, pages = 4096, 9
memory = mmap.mmap(-1, page * pages, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
for at in range(pages): memory[at * page] = 1
mprotect = ctypes.CDLL(None).mprotect
mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
assert mprotect(address + 3 * page, 3 * page, mmap.PROT_READ) == 0
memory.madvise(mmap.MADV_DONTNEED)
memory[0] = memory[8 * page] = 1
print(hex(address))
"""


@pytest.mark.once
def test_split_shows_each_vma(pte_trace: Command, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    script = "exec " + shlex.join([sys.executable, "-c", SPLITS])
    done = pte_trace("run", "--split", "--format", "csv", "-o", path, "--", "sh", "-c", script)

    assert done.status == 0, done.stderr
    start = int(done.stdout, 16)
    found = {}
    for row in csv.DictReader(io.StringIO(path.read_text())):
        first, last = ((int(row[end], 16) - start) // PAGE for end in ("start", "end"))
        if 0 <= first < last <= 9:
            found[first, last] = (row["write_faults_other"], row["protection_changes_mprotect"])
    assert found == {(0, 9): ("9", "0"), (0, 3): ("1", "0"), (3, 6): ("0", "1"), (6, 9): ("1", "0")}


def test_the_plan_of_this_kernels_files_is_its_plan(
    doctor: Mapping[str, Any], pte_trace: Callable[..., Finished], tmp_path: Path
) -> None:
    """Whether it may be preempted is in a file that is not here, and chosen at boot."""
    release = os.uname().release
    copies = {"vmlinux": "/sys/kernel/btf/vmlinux", "kallsyms": "/proc/kallsyms"}
    for name, path in copies.items():
        (tmp_path / f"{name}-{release}").write_bytes(Path(path).read_bytes())
    chosen = "PREEMPT" if doctor["facts"]["preemptible"] else "PREEMPT_VOLUNTARY"
    (tmp_path / f"config-{release}").write_text(f"CONFIG_{chosen}=y\n")
    done = pte_trace("doctor", "--json", "--kernel", tmp_path / f"vmlinux-{release}")
    told = json.loads(done.stdout)
    assert told["hooks"] == doctor["hooks"]
    assert told["functions"].keys() == doctor["functions"].keys()
    for fact in ("realtime", "sessions_unbounded", "casts"):
        assert told["facts"][fact] == doctor["facts"][fact], fact


def test_doctor_describes_this_kernel(doctor: Mapping[str, Any], optimized: bool) -> None:
    assert doctor["traceable"] is True
    assert doctor["kernel"]["optimization"] is optimized
    assert optimized is (GUEST not in {"bullseye", "unpatched", "unpatched-6.12"})
    assert doctor["facts"]["btf"] is True
    # By a trampoline only, which a kernel that may be preempted (sid) would skip.
    reached = GUEST in {"patched-6.12", "unpatched-6.12"}
    expected = "change_pte_range" if reached else "change_protection"
    assert doctor["hooks"]["change_pte_range"]["attached"] == expected
