"""Whose fault it was: names, ranges and permissions, also of what is gone at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from pte_trace.counted.counters import OUTCOMES
from tests.kernel.conftest import GUEST, MOST_FILES, WORKLOADS, Run
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


def test_memory_that_touches_the_heap_is_none_of_it(run: Run) -> None:
    """Nor is a part of it another kind than the whole."""
    traced = run("/usr/bin/setarch", "-R", WORKLOADS / "bss")

    start = int(traced.lines[0], 16)
    rows = [row for row in traced.document["vmas"] if row["comm"] == "bss" and covers(row, start)]
    assert {(row["kind"], row["name"]) for row in rows} == {("anon", "[anon]")}
    assert sum(row["write_faults"]["other"] for row in rows) >= 64
    assert sum(row["protection_changes"]["mprotect"] for row in rows) == 2


def covers(row: dict[str, Any], address: int) -> bool:
    return int(row["start"], 16) <= address < int(row["end"], 16)


def test_what_mremap_moved_is_not_what_was_there_before(run: Run) -> None:
    traced = run("moved")

    rows = [row for row in traced.document["vmas"] if row["start"] == "0x600000000000"]
    found = [(row["write_faults"]["other"], row["protection_changes"]["mprotect"]) for row in rows]
    assert sorted(found) == [(0, 4), (5, 0)]
    assert traced.vma("0x600000045000")["write_faults"]["other"] == 7


def test_the_first_system_v_segment_has_its_name(run: Run) -> None:
    """Its inode is 0."""
    traced = run("/usr/bin/unshare", "--ipc", WORKLOADS / "segment")

    ident, start = traced.lines[0].split()
    assert ident == "0"
    (row,) = (row for row in traced.document["vmas"] if row["start"] == start)
    assert (row["name"], row["kind"]) == ("/SYSV0000abcd (deleted)", "shmem")
    assert row["write_faults"]["other"] == 5


def test_a_path_of_any_length_is_whole_or_shows_that_it_was_cut(run: Run, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*(f"level{each}" for each in range(30)))
    wide = tmp_path.joinpath(*(f"{each}{'w' * 199}" for each in range(5)))
    for each in (deep, wide):
        each.mkdir(parents=True)
        (each / "file").write_bytes(bytes(64 * PAGE))
    traced = run("files", deep / "file", wide / "file")

    names = [row["name"] for row in traced.document["vmas"] if row["name"].endswith("/file")]
    assert str(deep / "file") in names
    (cut,) = (name for name in names if name.startswith("…/"))
    assert str(wide / "file").endswith(cut.removeprefix("…"))
    assert len(cut) > 500


def test_files_of_one_inode_and_device_have_their_own_names(run: Run, tmp_path: Path) -> None:
    """As two subvolumes of a btrfs number them alike."""
    modules("loop", "btrfs")
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    shell = f"""set -e
        mkfs.btrfs -q {image}; mount -o loop {image} {mounted}
        for each in one two; do btrfs -q subvolume create {mounted}/$each; done
        dd status=none if=/dev/zero of={mounted}/one/a bs=4096 count=64
        dd status=none if=/dev/zero of={mounted}/two/b bs=4096 count=64"""
    subprocess.run(["sh", "-c", shell], check=True, stdout=subprocess.DEVNULL)
    try:
        paths = (mounted / "one" / "a", mounted / "two" / "b")
        assert len({path.stat().st_ino for path in paths}) == 1
        traced = run("files", *paths)
    finally:
        subprocess.run(["umount", mounted], check=True)

    found = {
        row["name"]: sum(row["write_faults"].values())
        for row in traced.document["vmas"]
        if row["name"].startswith(str(mounted))
    }
    assert found == {str(paths[0]): 4, str(paths[1]): 5}


def test_the_stack_that_execve_builds_is_a_stack(run: Run) -> None:
    """And what execve() changes of it no program asked for."""
    traced = run("/bin/sh", "-c", "/bin/true; /bin/true; exit")

    stacks = [row for row in traced.document["vmas"] if row["name"] == "[stack]"]
    assert len({row["pid"] for row in stacks}) == 3
    assert sum(sum(row["protection_changes"].values()) for row in stacks) == 0
    above = [row for row in traced.document["vmas"] if int(row["start"], 16) >> 40 == 0x7F]
    assert not [row for row in above if row["kind"] == "anon" and row["end"] == "0x7ffffffff000"]
