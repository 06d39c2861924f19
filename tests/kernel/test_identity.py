"""Whose fault it was: names, ranges and permissions, also of what is gone at once."""

from __future__ import annotations

import sys
from pathlib import Path

from pte_trace.records import OUTCOMES
from tests.kernel.conftest import GUEST, MOST_FILES, Run
from tests.kernel.ground import modules

PAGE = 4096
ARENA = 0x610000000000


def test_short_lived_children_are_all_counted_and_named(run: Run) -> None:
    pages, count = 3, 200
    traced = run("children", pages, count)

    pids = [int(line) for line in traced.lines]
    assert len(pids) == count
    named = {(process["pid"], process["comm"]): process for process in traced.document["processes"]}
    for index, pid in enumerate(pids):
        assert (pid, f"child-{index}") in named
        row = traced.vma("0x600000000000", pid)
        assert row["write_faults"]["other"] == pages
        assert (row["kind"], row["comm"]) == ("anon", f"child-{index}")


def test_one_address_used_by_one_mapping_after_the_other(run: Run, tmp_path: Path) -> None:
    traced = run("mappings", tmp_path)

    rows = [row for row in traced.document["vmas"] if int(row["start"], 16) == ARENA]
    shown = [line.split(maxsplit=5) for line in traced.lines]
    expected = {
        (fields[0], fields[1], fields[5].strip() if len(fields) > 5 else "[anon]")
        for fields in shown
    }
    found = {
        (f"{int(row['start'], 16):x}-{int(row['end'], 16):x}", row["perms"], row["name"])
        for row in rows
    }
    assert found == expected
    kinds = {row["name"].rsplit("/", 1)[-1]: row["kind"] for row in rows}
    assert kinds["[anon]"] == "anon"
    assert kinds["memfd:in memory (deleted)"] == "shmem"
    assert kinds["zero (deleted)"] == "shmem"


def test_each_mapping_counts_its_own_faults(run: Run, tmp_path: Path) -> None:
    traced = run("mappings", tmp_path)

    pages = {
        (int(row["end"], 16) - ARENA) // PAGE: sum(row["write_faults"].values())
        for row in traced.document["vmas"]
        if int(row["start"], 16) == ARENA and row["kind"] != "file"
    }
    assert pages == {count: count for count in pages}


def test_what_mprotect_changed_and_changed_back_is_one_row(run: Run) -> None:
    traced = run("toggle", 23)

    row = traced.measured
    assert int(row["end"], 16) - int(row["start"], 16) == 23 * PAGE
    assert row["perms"] == "rw-p"


def test_what_a_worker_of_the_kernel_writes_is_its_process_s(run: Run, optimized: bool) -> None:
    modules("vhost_vsock")
    traced = run("vhost", 23)

    written, touched = 11, 12
    avoidable = 0 if optimized else written
    row = traced.measured
    assert row["comm"] == "vhost"
    none = dict.fromkeys(OUTCOMES, 0)
    assert row["write_faults"] == {**none, "wp_reuse": avoidable, "other": written + touched}
    assert row["ptes_made_writable"] == (written if optimized else 0)
    # Who runs while the process waits for the worker has pages reused too.
    assert traced.account["reused"] >= avoidable
    # Up to Linux 6.3 it is a kernel thread: not even getrusage(2) says that they are the process's.
    of_the_process = 0 if GUEST in ("bullseye", "bookworm") else avoidable + touched
    assert traced.account["faults"] == of_the_process
    assert traced.lost == 0


WRITES_TO_COPIES = """
import mmap, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    memory[0] = 1
"""


def test_files_have_names_however_many_there_were(run: Run, tmp_path: Path) -> None:
    each = MOST_FILES // 2
    for reading in range(3):
        paths = [tmp_path / f"{reading}-{number}" for number in range(each)]
        for path in paths:
            path.write_bytes(b"x" * PAGE)
        traced = run(sys.executable, "-c", WRITES_TO_COPIES, *paths)

        assert traced.status == 0
        names = {row["name"] for row in traced.document["vmas"]}
        assert {str(path) for path in paths} <= names
        assert not [name for name in names if name.startswith("[inode")]
