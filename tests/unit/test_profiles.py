"""Stacks as other tools read them: folded, and pprof's profile.proto."""

from __future__ import annotations

import gzip
from io import BytesIO, StringIO
from typing import Any

from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.snapshot import Snapshot
from pte_trace.effort import Effort
from pte_trace.views import folded, pprof
from pte_trace.views.profile_proto import Profile
from tests.builders import record, snapshot

LIBC, PROGRAM = "/usr/lib/libc.so.6", "/srv/a;program"
REUSED = Event("write_faults", "wp_reuse", "user")
INNER = Frame(0x7010, LIBC, 0x110, "memset+0x7")
OUTER = Frame(0x4010, PROGRAM, 0x10, "store::put(int)+0x2e")
OTHERS = (
    Frame(0x4110, PROGRAM, 0x110, unnamed="its symbols name no function there"),
    Frame(0x9000, "[jit]"),
    Frame(0x66),
)


def shown() -> Snapshot:
    """Two places in one function, all kinds of frames, none, and a call."""
    elsewhere = Frame(0x7090, LIBC, 0x190, "memset+0x87")
    return snapshot(
        record(
            comm="gc;1",
            stacks=(
                Stack(REUSED, (INNER, OUTER), 40),
                Stack(REUSED, (elsewhere, OUTER), 6),
                Stack(REUSED, OTHERS, 3),
                Stack(Event("write_faults", "wp_copy", "remote"), (), 2),
                Stack(Event("protection_changes", "mprotect"), (OUTER,), 99),
            ),
        ),
        record(pid=101, name="/srv/data", stacks=(Stack(REUSED, (INNER, OUTER), 1),)),
        effort=Effort(stacks=7),
    )


def test_folded_has_a_line_for_each_function_and_event() -> None:
    """The outermost first; what separates frames is in none of them."""
    stream = StringIO()
    folded.write(shown(), stream)
    assert stream.getvalue().splitlines() == [
        "gc:1;[unknown];[jit];a:program+0x110;wp_reuse user [anon] 3",
        "gc:1;store::put(int);memset;wp_reuse user [anon] 46",
        "gc:1;wp_copy remote [anon] 2",
        "worker;store::put(int);memset;wp_reuse user /srv/data 1",
    ]


def written(of: Snapshot) -> Any:
    stream = BytesIO()
    pprof.write(of, stream)
    made = Profile()
    made.ParseFromString(gzip.decompress(stream.getvalue()))
    return made


def test_a_profile_has_both_kinds_of_samples() -> None:
    made = written(shown())
    text = made.string_table
    assert text[0] == ""
    assert [(text[each.type], text[each.unit]) for each in made.sample_type] == [
        ("faults", "count"),
        ("calls", "count"),
    ]
    assert text[made.default_sample_type] == "faults"
    assert made.period == 7
    assert made.duration_nanos == 1_500_000_000
    assert "one of 7" in text[made.comment[1]]
    values = [tuple(sample.value) for sample in made.sample]
    assert values == [(0, 99), (40, 0), (6, 0), (3, 0), (2, 0), (1, 0)]


def test_a_sample_leads_from_the_innermost_place_to_its_functions() -> None:
    made = written(shown())
    text = made.string_table
    locations = {each.id: each for each in made.location}
    functions = {each.id: text[each.name] for each in made.function}
    names = [
        [functions[locations[each].line[0].function_id] for each in sample.location_id]
        for sample in made.sample
    ]
    assert names == [
        ["store::put(int)"],
        ["memset", "store::put(int)"],
        ["memset", "store::put(int)"],
        ["a;program+0x110", "[jit]", "[unknown]"],
        ["[remote]"],
        ["memset", "store::put(int)"],
    ]
    _, first, second, *_, last = made.sample
    assert first.location_id[0] != second.location_id[0]
    assert list(first.location_id) == list(last.location_id)
    assert locations[first.location_id[0]].address == 0x110
    assert {text[each.filename]: each.memory_limit for each in made.mapping} == {
        LIBC: 0x191,
        PROGRAM: 0x111,
    }
    assert all(each.has_functions for each in made.mapping)


def test_labels_tell_what_happened_where() -> None:
    made = written(shown())
    text = made.string_table
    told = [
        {text[label.key]: text[label.str] if label.str else label.num for label in sample.label}
        for sample in made.sample
    ]
    assert told[1] == {
        "outcome": "wp_reuse",
        "origin": "user",
        "mapping": "[anon]",
        "comm": "gc;1",
        "pid": 100,
    }
    assert told[0] == {"cause": "mprotect", "mapping": "[anon]", "comm": "gc;1", "pid": 100}
    assert (told[5]["mapping"], told[5]["pid"]) == ("/srv/data", 101)


def test_the_same_stacks_are_the_same_file() -> None:
    streams = BytesIO(), BytesIO()
    for stream in streams:
        pprof.write(shown(), stream)
    assert streams[0].getvalue() == streams[1].getvalue()
