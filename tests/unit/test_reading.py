"""bpf/records.h as Python sees it: laid out as the compiler does, and decoded."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pte_trace.counted.counters import (
    CAUSES,
    FAMILIES,
    OMISSIONS,
    OUTCOMES,
    PMD_REASONS,
    PMDS_LEFT_READONLY,
    PMDS_MADE_WRITABLE,
    PMDS_SPLIT,
    PROTECTED_BY,
    REASONS,
    WRITE_FAULTS,
    WRITE_FAULTS_ORIGIN,
)
from pte_trace.counted.counts import NOTHING, UNMEASURED, Histogram
from pte_trace.counted.mapping import VmaRow
from pte_trace.counted.packed import (
    ANON_NAME,
    BUCKETS,
    CGROUP_NAME,
    KINDS,
    LAYOUT,
    TRACING,
    Packed,
    ReadFile,
    path_of,
)
from pte_trace.counted.reading import unpacked
from pte_trace.counted.rows import Rows
from pte_trace.programs import program
from tests.builders import counts, histogram

SOURCE = program.source("counters.h") + program.source("records.h")
STRUCTS = re.findall(r"^struct (\w+) \{", SOURCE, re.MULTILINE)
VM_READ, VM_WRITE, VM_EXEC, VM_SHARED = 1, 2, 4, 8


def pack(struct: str, values: dict[str, Any]) -> bytes:
    return bytes(LAYOUT.ffi.buffer(LAYOUT.ffi.new(f"struct {struct} *", values)))


def path_record(*components: str) -> bytes:
    """A packed file_record: *components* from the last to the first, as the kernel walks."""
    text = b"".join(component.encode() + b"\0" for component in components)
    return pack("file_record", {"length": len(text), "components": text})


def no_file(key: bytes) -> bytes | None:
    return None


def decoded(
    key: dict[str, Any] | None = None,
    value: dict[str, Any] | None = None,
    read_file: ReadFile = no_file,
    timings: bytes = b"",
) -> VmaRow:
    """One record, decoded: an anonymous VMA with one fault, but for what is given."""
    vma = {"tgid": 7, "start": 0x1000, "end": 0x3000, **(key or {})}
    record = packed({"vma": vma, **(value or {})})
    (row,) = Rows(unpacked(Packed(record, timings=timings), read_file))
    return row


def packed(value: dict[str, Any]) -> bytes:
    """One fault, but for what is given."""
    names = [family.name for family in FAMILIES]
    counted = {name: value.pop(name) for name in names if name in value}
    return pack("vma_record", {"counted": {"write_faults": [1], **counted}, **value})


def timing(outcome: str, cost: Histogram, record: int = 0) -> bytes:
    """A packed timing of the record at that place."""
    return pack(
        "timing",
        {
            "record": record,
            "outcome": OUTCOMES.index(outcome),
            "ns": cost.sum,
            "log2": list(cost.log2),
        },
    )


def test_the_header_defines_the_structs_that_are_compared() -> None:
    assert {"vma_key", "vma_record", "timing", "file_key", "file_record"} <= set(STRUCTS)
    assert "counters" in STRUCTS


def test_sizes_and_offsets_are_those_the_compiler_gives(tmp_path: Path) -> None:
    expected: list[str] = []
    lines: list[str] = []
    for struct in STRUCTS:
        kind = LAYOUT.ffi.typeof(f"struct {struct}")
        expected.append(f"{struct} {LAYOUT.ffi.sizeof(kind)}")
        lines.append(f'printf("{struct} %zu\\n", sizeof(struct {struct}));')
        for name, field in kind.fields:
            expected.append(f"{struct}.{name} {field.offset} {LAYOUT.ffi.sizeof(field.type)}")
            member = f"((struct {struct} *)0)->{name}"
            lines.append(
                f'printf("{struct}.{name} %zu %zu\\n",'
                f" offsetof(struct {struct}, {name}), sizeof({member}));"
            )
    header = tmp_path / "records.h"
    header.write_text(SOURCE)
    compiled = tmp_path / "layout"
    source = "\n".join(
        [
            "#include <stddef.h>",
            "#include <stdio.h>",
            "#include <linux/types.h>",
            '#include "records.h"',
            "int main(void) {",
            *lines,
            "}",
        ]
    )
    subprocess.run(
        ["gcc", f"-I{tmp_path}", "-xc", "-", "-o", compiled], input=source, text=True, check=True
    )
    printed = subprocess.run([compiled], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == expected


def test_structs_have_no_hidden_padding() -> None:
    """Padding in a map's key is compared, so it must have a name and be cleared."""
    for struct in STRUCTS:
        end = 0
        for name, field in LAYOUT.ffi.typeof(f"struct {struct}").fields:
            assert field.offset == end, f"{struct}.{name}"
            end += LAYOUT.ffi.sizeof(field.type)
        assert LAYOUT.ffi.sizeof(f"struct {struct}") == end, struct


def test_names_are_the_designs() -> None:
    assert CAUSES == ("mprotect", "numa_hint", "uffd_wp", "uffd_unprotect")
    faults = ("wp_reuse", "wp_copy", "wp_shared", "wp_uffd", "wp_tracked", "uffd_missing")
    assert (*faults, "other", "error") == OUTCOMES
    assert REASONS == ("clean", "soft_dirty", "uffd_wp", "shared")
    assert PMD_REASONS == ("hugetlb", "uffd_wp", "soft_dirty", "huge", "shared")
    assert OMISSIONS == ("huge", "limit")
    assert KINDS == ("anon", "heap", "stack", "file", "shmem", "hugetlb", "other")
    assert TRACING == {"never": 0, "children": 1, "from_exec": 2, "now": 3}


def test_ptes_inspected_are_counted_by_themselves() -> None:
    """So that it can be seen whether those made writable and left read-only are all."""
    found = decoded(
        value={"ptes_inspected": 30, "ptes_made_writable": [10], "ptes_left_readonly": [0, 0, 5]}
    ).counts
    assert found.inspected == 30
    assert (found + found).inspected == 60
    assert (found + NOTHING).inspected == 30


def test_a_recording_keeps_what_became_of_those_inspected() -> None:
    recorded = counts(writable={"mprotect": 10}, readonly={"clean": 5})
    assert recorded.inspected == 15
    assert (recorded + recorded).inspected == 30


def test_there_is_a_timing_for_each_outcome() -> None:
    fields = dict(LAYOUT.ffi.typeof("struct vma_record").fields)
    assert fields["timings"].type.length == len(OUTCOMES)


def test_a_record_is_decoded() -> None:
    record = decoded(
        {"image": 900},
        {
            "first_seen_ns": 11,
            "born_ns": 10,
            "kind": KINDS.index("heap"),
            "ppid": 6,
            "comm": b"worker",
            "vm_flags": VM_READ | VM_WRITE,
            "last_change_ns": 12,
            "write_faults": [0, 0, 0, 0, 0, 0, 1, 0],
            "protection_changes": [1, 2, 3, 4],
            "ptes_changed": [10, 20, 30, 40],
        },
    )
    assert record == VmaRow(
        pid=7,
        ppid=6,
        comm="worker",
        image=900,
        start=0x1000,
        end=0x3000,
        inode=0,
        dev=0,
        kind="heap",
        name="[heap]",
        perms="rw-p",
        seen_ns=11,
        born_ns=10,
        changed_ns=12,
        named_ns=11,
        counts=counts(
            changes={"mprotect": 1, "numa_hint": 2, "uffd_wp": 3, "uffd_unprotect": 4},
            ptes={"mprotect": 10, "numa_hint": 20, "uffd_wp": 30, "uffd_unprotect": 40},
            faults={"other": 1},
        ),
    )
    assert record.attributed


def test_outcomes_add_up_to_all_write_faults() -> None:
    numbers = (1, 2, 3, 4, 6, 7, 72, 5)
    causes = {"wp_reuse": {"mprotect": 1}, "wp_copy": {"fork": 2}}
    protected = [[causes[each].get(name, 0) for name in PROTECTED_BY.names] for each in causes]
    record = decoded(value={"write_faults": list(numbers), "wp_protected_by": protected})
    assert record.counts == counts(faults=dict(zip(OUTCOMES, numbers, strict=True)))
    assert record.counts.sum(WRITE_FAULTS) == 100
    assert record.counts.avoidable == 1


def test_who_did_not_write_is_counted_and_the_rest_is_the_program() -> None:
    record = decoded(value={"write_faults": [9, 8], "write_faults_origin": [0, 5, 3]})
    assert record.counts.by_name(WRITE_FAULTS_ORIGIN) == {"user": 9, "kernel": 5, "remote": 3}
    # As it is after a reading that failed: what was told is still there.
    again = decoded(value={"write_faults": [9, 8], "write_faults_origin": [9, 5, 3]})
    assert again.counts == record.counts


def test_what_a_fork_protected_is_decoded() -> None:
    record = decoded(
        value={"write_faults": [], "ptes_protected_by_fork": 3, "pmds_protected_by_fork": 2}
    )
    assert record.counts == counts(forked=3, huge_forked=2)


def test_ptes_made_writable_are_decoded_by_cause() -> None:
    record = decoded(value={"write_faults": [], "ptes_made_writable": [1, 2, 3, 4]})
    given = {"mprotect": 1, "numa_hint": 2, "uffd_wp": 3, "uffd_unprotect": 4}
    assert record.counts == counts(writable=given, inspected=0)


def test_ptes_left_readonly_are_decoded_by_reason() -> None:
    record = decoded(value={"write_faults": [], "ptes_left_readonly": [10, 20, 30, 40]})
    given = {"clean": 10, "soft_dirty": 20, "uffd_wp": 30, "shared": 40}
    assert record.counts == counts(readonly=given, inspected=0)


def test_huge_pages_are_decoded_by_cause_and_by_reason() -> None:
    record = decoded(
        value={
            "write_faults": [],
            "pmds_made_writable": [1, 2, 3, 4],
            "pmds_left_readonly": [5, 6, 7, 8, 9],
            "pmds_split": 10,
        }
    )
    assert record.counts[PMDS_MADE_WRITABLE] == (1, 2, 3, 4)
    assert record.counts.by_name(PMDS_LEFT_READONLY) == {
        "hugetlb": 5,
        "uffd_wp": 6,
        "soft_dirty": 7,
        "huge": 8,
        "shared": 9,
    }
    assert record.counts.sum(PMDS_SPLIT) == 10
    assert record.counts.made_writable == 10
    assert record.counts.entries_inspected == 10 + 35


def test_ptes_that_were_not_inspected_are_decoded_by_omission() -> None:
    record = decoded(value={"write_faults": [], "ptes_not_inspected": [512, 3]})
    assert record.counts == counts(omitted={"huge": 512, "limit": 3})


def test_costs_are_decoded_by_outcome() -> None:
    given = {name: histogram(2**place, 2**place + 1) for place, name in enumerate(OUTCOMES, 1)}
    record = decoded(timings=b"".join(timing(name, cost) for name, cost in given.items()))
    assert record.counts.costs == tuple(given.values())


def test_two_timings_of_one_outcome_add_up() -> None:
    both = timing("wp_copy", histogram(5)) + timing("wp_copy", histogram(900))
    assert decoded(timings=both).counts.costs[OUTCOMES.index("wp_copy")] == histogram(5, 900)


def test_a_timing_is_of_the_record_at_its_place() -> None:
    """Whether it is a VMA's, of a process without room, or nobody's."""
    one, other = (packed({"vma": {"tgid": pid, "end": 1}}) for pid in (1, 2))
    process, nobody = packed({"vma": {"tgid": 3}}), packed({})
    places = {1: 7, 2: 8, 3: 100, 0: 1}
    timings = [timing("other", histogram(pid + 1), place) for pid, place in places.items()]
    rows = Rows(
        unpacked(
            Packed(one + other, process, nobody, b"".join(timings), 7, 100, 1),
            no_file,
        )
    )
    assert {row.pid: row.counts.costs[OUTCOMES.index("other")] for row in rows} == {
        pid: histogram(pid + 1) for pid in places
    }


def test_an_outcome_that_was_not_timed_is_unmeasured() -> None:
    assert decoded(timings=timing("other", UNMEASURED)).counts.costs == NOTHING.costs


def test_a_fault_too_fast_for_the_clock_was_timed() -> None:
    record = decoded(timings=timing("wp_reuse", histogram(0)))
    assert record.counts.reuse_cost == histogram(0)
    assert record.counts.reuse_cost.count == 1


def test_a_protection_change_alone_is_kept() -> None:
    record = decoded(value={"write_faults": [], "protection_changes": [1, 0, 0, 0]})
    assert record.counts == counts(changes={"mprotect": 1})


def test_as_many_records_are_decoded_as_were_read() -> None:
    value = packed({"vma": {"tgid": 1, "end": 1}})
    assert len(unpacked(Packed(value * 2), no_file)) == 2
    assert len(unpacked(Packed(b""), no_file)) == 0
    assert len(unpacked(Packed(bytes(len(value))), no_file)) == 0
    assert len(unpacked(Packed(value + bytes(len(value)) + value), no_file)) == 2


@pytest.mark.parametrize(
    ("flags", "perms"),
    [
        (0, "---p"),
        (VM_READ, "r--p"),
        (VM_READ | VM_WRITE, "rw-p"),
        (VM_READ | VM_EXEC, "r-xp"),
        (VM_READ | VM_WRITE | VM_SHARED, "rw-s"),
        (0xFFFFFFFF, "rwxs"),
    ],
)
def test_permissions_are_written_as_in_proc_maps(flags: int, perms: str) -> None:
    assert decoded(value={"vm_flags": flags}).perms == perms


@pytest.mark.parametrize("kind", KINDS)
def test_a_mapping_without_a_file_is_called_by_its_kind(kind: str) -> None:
    record = decoded(value={"kind": KINDS.index(kind)})
    assert record.kind == kind
    assert record.name == f"[{kind}]"


def test_an_anonymous_mapping_may_have_been_given_a_name() -> None:
    named = {pack("file_key", {"inode": 99, "dev": ANON_NAME}): path_record("GC heap")}
    assert decoded(value={"anon_name": 99}, read_file=named.get).name == "[anon:GC heap]"
    assert decoded(value={"anon_name": 98}, read_file=named.get).name == "[anon:?]"


def test_a_name_is_looked_up_once_of_however_many_records_it_is() -> None:
    asked: list[bytes] = []
    vmas = [packed({"vma": {"end": end, "inode": 42}, "kind": 3}) for end in range(1, 50)]
    rows = unpacked(Packed(b"".join(vmas)), lambda key: asked.append(key))
    assert (len(rows), len(asked)) == (49, 1)


def test_a_mapped_file_is_called_by_its_path() -> None:
    record = decoded(
        {"inode": 42},
        {"kind": KINDS.index("file")},
        lambda key: path_record("libc.so.6", "lib", "usr"),
    )
    assert record.name == "/usr/lib/libc.so.6"


def test_a_file_is_looked_up_by_inode_device_and_path() -> None:
    asked: list[bytes] = []
    decoded({"inode": 42, "dev": 5}, {"path": 1}, lambda key: asked.append(key))
    assert asked == [pack("file_key", {"inode": 42, "dev": 5, "path": 1})]


def test_a_deleted_file_is_marked_as_in_proc_maps() -> None:
    record = decoded({"inode": 42}, {"path": 1}, lambda key: path_record("log", "tmp"))
    assert record.name == "/tmp/log (deleted)"


def test_a_file_whose_path_was_not_kept_is_called_by_its_inode() -> None:
    assert decoded({"inode": 42}).name == "[inode 42]"


def test_events_without_a_vma_are_not_attributed_but_to_their_process() -> None:
    for vm_flags in (VM_READ | VM_WRITE, VM_READ | VM_SHARED):
        record = decoded(
            {"start": 0, "end": 0},
            {"comm": b"worker", "ppid": 3, "kind": 4, "vm_flags": vm_flags},
        )
        assert not record.attributed
        assert (record.pid, record.ppid, record.comm) == (7, 3, "worker")
        assert (record.name, record.kind, record.perms) == ("[not attributed]", "other", "---p")


def test_a_comm_that_is_not_utf8_is_shown_escaped() -> None:
    assert decoded(value={"comm": b"caf\xe9\xff"}).comm == "caf\\xe9\\xff"


def test_a_comm_that_fills_its_array_is_read_to_its_end() -> None:
    assert decoded(value={"comm": b"0123456789abcdef"}).comm == "0123456789abcdef"


def test_a_path_that_is_not_utf8_is_shown_escaped() -> None:
    record = pack("file_record", {"length": 5, "components": b"a\xff/b\0"})
    assert path_of(record) == "/a\\xff/b"


@pytest.mark.parametrize(
    ("components", "path"),
    [
        (("file",), "/file"),
        (("c", "b", "a"), "/a/b/c"),
        (("with space", "ünï"), "/ünï/with space"),
        ((), "/"),
    ],
)
def test_components_are_put_in_order(components: tuple[str, ...], path: str) -> None:
    assert path_of(path_record(*components)) == path


def test_a_path_ends_where_its_length_says() -> None:
    record = pack("file_record", {"length": 2, "components": b"a\0leftover\0"})
    assert path_of(record) == "/a"


def test_counts_add_up_name_by_name() -> None:
    one = counts(
        changes={"mprotect": 1},
        faults={"wp_reuse": 2},
        writable={"mprotect": 10},
        readonly={"clean": 1},
        omitted={"limit": 7},
        costs={"wp_reuse": histogram(4)},
    )
    other = counts(
        changes={"mprotect": 3},
        ptes={"uffd_wp": 4},
        faults={"error": 5},
        writable={"mprotect": 20, "uffd_unprotect": 30},
        readonly={"clean": 2, "shared": 3},
        omitted={"huge": 512},
        costs={"wp_reuse": histogram(5), "error": histogram(6)},
    )
    assert one + other == counts(
        changes={"mprotect": 4},
        ptes={"uffd_wp": 4},
        faults={"wp_reuse": 2, "error": 5},
        writable={"mprotect": 30, "uffd_unprotect": 30},
        readonly={"clean": 3, "shared": 3},
        omitted={"huge": 512, "limit": 7},
        costs={"wp_reuse": histogram(4, 5), "error": histogram(6)},
    )
    assert one + NOTHING == NOTHING + one == one


def test_inspected_are_the_ptes_made_writable_and_those_left_readonly() -> None:
    some = counts(
        ptes={"mprotect": 1000},
        writable={"mprotect": 10, "uffd_unprotect": 5},
        readonly={"clean": 1, "soft_dirty": 2, "uffd_wp": 3, "shared": 4},
        omitted={"huge": 512, "limit": 100},
    )
    assert some.inspected == 25


@pytest.mark.parametrize(
    ("made", "avoidable", "efficacy"), [(0, 0, None), (3, 0, 1.0), (0, 3, 0.0), (3, 1, 0.75)]
)
def test_efficacy_is_the_share_of_avoidable_faults_avoided(
    made: int, avoidable: int, efficacy: float | None
) -> None:
    some = counts(writable={"mprotect": made}, faults={"wp_reuse": avoidable, "wp_copy": 50})
    assert some.efficacy == efficacy


def test_histograms_add_up_place_by_place() -> None:
    assert histogram(1, 2, 700) + histogram(3, 600) == histogram(1, 2, 3, 600, 700)


def test_adding_what_was_not_measured_changes_nothing() -> None:
    some = histogram(10, 20)
    assert some + UNMEASURED == UNMEASURED + some == some
    assert some + Histogram(0, (0,) * BUCKETS) == some
    assert UNMEASURED + UNMEASURED == UNMEASURED


def test_the_mean_is_that_of_the_durations_not_of_their_places() -> None:
    assert histogram(5, 6, 1000).mean == 337.0
    assert histogram(0).mean == 0.0


def test_without_a_measurement_there_is_no_mean() -> None:
    assert UNMEASURED.mean is None
    assert UNMEASURED.count == 0


def test_a_cgroup_is_named_by_its_id() -> None:
    asked = []

    def read(key: bytes) -> bytes:
        asked.append(key)
        return path_record("nginx.service", "system.slice")

    assert decoded({}, {"cgroup": 9}, read).cgroup == "/system.slice/nginx.service"
    assert asked == [pack("file_key", {"inode": 9, "dev": CGROUP_NAME})]


def test_the_root_of_all_cgroups_has_no_name_of_its_own() -> None:
    assert decoded({}, {"cgroup": 1}, lambda key: pack("file_record", {})).cgroup == "/"


def test_a_cgroup_whose_name_found_no_room_is_not_known() -> None:
    assert decoded({}, {"cgroup": 9}).cgroup == ""


def test_a_kernel_without_cgroups_has_none() -> None:
    assert decoded({}, {}, lambda key: path_record("never")).cgroup == ""


def test_a_path_that_was_cut_shows_it() -> None:
    text = b"file\0level29\0"
    cut = pack("file_record", {"length": len(text), "cut": 1, "components": text})
    assert decoded({"inode": 42}, {}, lambda key: cut).name == "…/level29/file"


def test_where_only_version_1_is_in_use_no_cgroup_is_known() -> None:
    record = packed({"vma": {"tgid": 7, "end": 0x1000}, "cgroup": 1})
    columns = unpacked(Packed(record), lambda key: path_record(), cgroups=False)
    assert [row.cgroup for row in Rows(columns)] == [""]


def test_the_inode_0_is_a_files_where_there_is_a_device() -> None:
    """The first System V segment of an IPC namespace."""
    named = {pack("file_key", {"dev": 1, "path": 3}): path_record("SYSV0000abcd")}
    row = decoded({"inode": 0, "dev": 1}, {"path": 3, "kind": 4}, named.get)
    assert (row.name, row.kind) == ("/SYSV0000abcd (deleted)", "shmem")


def test_files_of_one_inode_and_device_have_their_own_paths() -> None:
    paths = {
        pack("file_key", {"inode": 257, "dev": 9, "path": which}): path_record("a", where)
        for which, where in ((2, "one"), (4, "two"))
    }
    vmas = [
        packed({"vma": {"end": end, "inode": 257, "dev": 9}, "path": which, "kind": 3})
        for end, which in ((1, 2), (2, 4))
    ]
    rows = Rows(unpacked(Packed(b"".join(vmas)), paths.get))
    assert [row.name for row in rows] == ["/one/a", "/two/a"]
