"""The story as a person reads it, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from io import StringIO
from typing import Any

import pytest

from pte_trace.counted.explanation import explain
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.snapshot import Health, ReuseCost, Snapshot
from pte_trace.effort import Effort
from pte_trace.host.behavior import Behavior
from pte_trace.views import document, explained, text
from tests.builders import counts, histogram, record, snapshot
from tests.unit.test_explanation import CASES, LINUX_6_1, NO_INSPECTION, TODAY, toggled

LIBC, PROGRAM = "/usr/lib/libc.so.6", "/srv/a\tprogram"
FRAMES = (
    Frame(0x7010, LIBC, 0x110, "mprotect+0x7"),
    Frame(0x4010, PROGRAM, 0x10, "store::toggle(int)+0x2e"),
    Frame(0x4110, PROGRAM, 0x110, unnamed="its symbols name no function there"),
    Frame(0x9000, "[jit]"),
    Frame(0x66),
)


def story() -> Snapshot:
    """A mapping that was toggled twice, one whose pages a child has, one ordinary."""
    saved = record(
        counts=counts(
            {"mprotect": 1203, "uffd_wp": 1},
            {"mprotect": 30, "uffd_wp": 1},
            {"wp_reuse": 2, "other": 10},
            writable={"mprotect": 13},
            readonly={"clean": 2},
            costs={"wp_reuse": histogram(1000, 1000)},
        ),
        stacks=(
            Stack(Event("protection_changes", "mprotect"), FRAMES, 1200),
            Stack(Event("write_faults", "other", "user"), FRAMES[1:2], 7),
            Stack(Event("write_faults", "other", "remote"), (), 3),
            Stack(Event("write_faults", "wp_reuse", "kernel"), FRAMES[:1], 2),
            Stack(Event("protection_changes", "uffd_wp"), FRAMES[:1], 1),
        ),
    )
    plain = record(
        start=0x30000,
        end=0x40000,
        counts=counts({"mprotect": 1}, {"mprotect": 1}, {"other": 33}),
    )
    return snapshot(
        saved, plain, effort=Effort(stacks=1), calibration=ReuseCost(1000.0, "elsewhere")
    )


def printed(shown: Snapshot, behavior: Behavior = TODAY) -> str:
    stream = StringIO()
    text.console(stream).print(explained.report(shown, explain(shown, behavior)))
    return stream.getvalue()


def written(shown: Snapshot, behavior: Behavior = TODAY) -> dict[str, Any]:
    stream = StringIO()
    explained.write_json(shown, behavior, explain(shown, behavior), stream)
    document: dict[str, Any] = json.loads(stream.getvalue())
    return document


STORY = """\
Linux 6.18.0-test, mprotect optimization at work; 1.500 s traced

Process 100, worker

  10000-20000  rw-p  [anon]
    Changed by mprotect 1,203 times, 30 PTEs.
        1,200 × mprotect+0x7 (libc.so.6) < store::toggle(int)+0x2e (a\\tprogram)\
 < 0x110 (a\\tprogram) < [jit] 0x9000 < [unknown] 0x66
        no name in a\\tprogram: its symbols name no function there
        3 × [no call of this process is known]
    Changed by uffd_wp 1 time, 1 PTE.
        1 × mprotect+0x7 (libc.so.6)
    The optimization made 13 PTEs writable at once; at 1 µs a fault that is at most 13 µs saved\
 (an estimate, from 2 wp_reuse faults timed here).
        evidence: wp_protected_by.wp_reuse.mprotect = 2, ptes_made_writable = 13,\
 ptes_inspected = 15
        not known: How many of them were written to before the next change: the others saved\
 nothing, and their entries do not tell. What was saved is the difference to the same program on a\
 kernel without the optimization: pte-trace compare.
    2 PTEs stayed read-only: nothing was written to the page since it was mapped or cleaned,\
 and this kernel leaves such pages read-only. 2 writes then only needed the PTE changed,\
 0 writes had to copy.
        evidence: ptes_left_readonly.clean = 2, write_faults.wp_reuse = 2,\
 write_faults.wp_copy = 0, behavior.clean_pages = false
        remedy: Linux 6.2 or newer for those that did not copy (d84887739d5c); or write to the\
 pages before the change.
    10 write faults never came to a write-protected page: first touch, swap-in or\
 NUMA hint. No protection change could save them.
        evidence: write_faults.other = 10
    2 write faults (wp_reuse), by who wrote:
        2 × kernel: mprotect+0x7 (libc.so.6)
    10 write faults (other), by who wrote:
        7 × user: store::toggle(int)+0x2e (a\\tprogram)
        3 × remote: [another process or a kernel thread]

  1 further mapping, where no write fault came of a protection change that was seen: 1 change,\
 33 write faults (33 other).

The optimization made 13 PTEs writable at once; at 1 µs a fault that is at most 13 µs saved\
 (an estimate, from 2 wp_reuse faults timed here). 2 avoidable faults remained: clean pages.
"""


def test_the_story_letter_by_letter() -> None:
    assert printed(story(), LINUX_6_1) == STORY


@pytest.mark.parametrize(
    ("of", "behavior", "row"), [pytest.param(*case[1:4], id=case[0]) for case in CASES]
)
def test_every_finding_has_its_sentences(of: Any, behavior: Behavior, row: dict[str, Any]) -> None:
    shown = snapshot(record(counts=of, **row))
    for finding in written(shown, behavior)["explanations"][0]["findings"]:
        assert finding["what"].endswith(".")
        assert finding["evidence"]
        for said in ("not_known", "remedy"):
            assert finding[said] is None or finding[said].endswith(".")


def test_few_faults_without_a_change_are_told_together_and_many_apart() -> None:
    by_fork = {"wp_reuse": {"fork": 50}, "wp_copy": {"fork": 49}}
    few = record(counts=counts(faults={"wp_reuse": 50, "wp_copy": 49}, protected=by_fork))
    assert "1 further mapping" in printed(snapshot(few))
    assert "(50 wp_reuse, 49 wp_copy)" in printed(snapshot(few))
    by_fork["wp_copy"]["fork"] += 1
    many = record(counts=counts(faults={"wp_reuse": 50, "wp_copy": 50}, protected=by_fork))
    assert "further mapping" not in printed(snapshot(many))
    assert (
        "A fork had write-protected pages here; 50 writes only needed the entry changed and 50"
        " writes had to copy the page."
    ) in printed(snapshot(many))


def test_a_forks_children_are_counted() -> None:
    of = toggled({"wp_copy": 10, "other": 10}, readonly={"shared": 10}, forked=12)
    child = record(pid=101, ppid=100, image=2000)
    assert (
        "fork() write-protected 12 PTEs here; 10 writes had to copy the page. Children: 1 traced,"
        " which copied 0 and reused 0 here."
    ) in printed(snapshot(record(counts=of), child))
    found = explain(snapshot(record(counts=of)), TODAY, {100: 3})
    stream = StringIO()
    text.console(stream).print(explained.report(snapshot(record(counts=of)), found))
    assert "Children: 3 seen while it was traced." in stream.getvalue()


def test_what_was_not_looked_at_is_not_known() -> None:
    shown = snapshot(record(counts=toggled({"wp_reuse": 3})), effort=NO_INSPECTION)
    assert "not known: How many PTEs were made writable" in printed(shown)
    assert "ptes_inspected = unknown" in printed(shown)
    (entry,) = written(shown)["explanations"]
    assert entry["ptes_not_inspected"] is None
    assert entry["call_sites"] is None
    assert written(shown)["stacks"] is None


def test_json_is_the_document_of_run_and_more() -> None:
    found = written(story())
    more = {name: found.pop(name) for name in ("behavior", "explanations")}
    assert found == json.loads(json.dumps(document.document(story())))
    assert (found["stacks"]["one_of"], found["stacks"]["lost"]) == (1, 0)
    assert more["behavior"] == asdict(TODAY)
    ordinary, toggled_twice = more["explanations"]
    assert ordinary["findings"][0]["finding"] == "not_asked"
    assert toggled_twice["start"] == "0x10000"
    assert toggled_twice["seconds_saved_at_most"] == pytest.approx(13e-6)
    assert toggled_twice["call_sites"][0] == {
        "cause": "mprotect",
        "calls": 1200,
        "frames": [
            {
                "address": "0x7010",
                "function": "mprotect+0x7",
                "file": LIBC,
                "file_address": "0x110",
                "unnamed": None,
            },
            {
                "address": "0x4010",
                "function": "store::toggle(int)+0x2e",
                "file": PROGRAM,
                "file_address": "0x10",
                "unnamed": None,
            },
            {
                "address": "0x4110",
                "function": None,
                "file": PROGRAM,
                "file_address": "0x110",
                "unnamed": "its symbols name no function there",
            },
            *(
                {
                    "address": address,
                    "function": None,
                    "file": file,
                    "file_address": None,
                    "unnamed": None,
                }
                for address, file in (("0x9000", "[jit]"), ("0x66", None))
            ),
        ],
    }


def test_evidence_is_found_in_the_document_by_its_name() -> None:
    """But for what was found of the kernel and counted of children."""
    for case in CASES:
        of, behavior, row = case[1:4]
        found = written(snapshot(record(counts=of, **row)), behavior)
        (vma,), (entry,) = found["vmas"], found["explanations"]
        for finding in entry["findings"]:
            for name, value in finding["evidence"].items():
                if name.startswith("children_"):
                    continue
                where = {**vma, **entry, "behavior": found["behavior"]}
                for field in name.split("."):
                    where = where[field]
                assert value == (sum(where.values()) if isinstance(where, dict) else where), name


def test_calls_that_found_no_room_are_said() -> None:
    assert "7 faults, calls or mappings of code found no room" in printed(
        replace(story(), health=Health(stacks_full=7))
    )


def test_where_code_cannot_be_told_that_is_said() -> None:
    shown = story()
    hooks = {name: hook for name, hook in shown.hooks.items() if name != "mmap_region"}
    assert "code may not be named" in printed(replace(shown, hooks=hooks))
    assert "code may not be named" not in printed(replace(shown, hooks=hooks, effort=Effort()))


def test_a_process_is_told_where_it_belongs() -> None:
    here = record(
        cgroup="/system.slice/a\nb.service", counts=counts({"mprotect": 2}, {"mprotect": 9})
    )
    of = snapshot(here)
    found = explain(of, Behavior(optimization=True))
    stream = StringIO()
    text.console(stream).print(explained.report(of, found))
    assert "  cgroup /system.slice/a\\nb.service\n" in stream.getvalue()
