"""Whose fault it was: names, ranges and permissions, also of what is gone at once."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.kernel.conftest import MOST_FILES, Run

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
