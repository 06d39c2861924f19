"""Who writes, in sentences: below a report, and in each interval of `top`."""

from __future__ import annotations

from io import StringIO

import click
import pytest
from click.testing import CliRunner

from pte_trace.commands import options
from pte_trace.counted.mapping import Event, Frame, Stack
from pte_trace.counted.snapshot import Health, Snapshot
from pte_trace.effort import Effort
from pte_trace.views import text
from tests.builders import record, snapshot

PUT = Frame(0x4010, "/bin/g\nc", 0x10, "put+0x2")
REUSED = Event("write_faults", "wp_reuse", "user")


def shown(*found: Stack, one_of: int = 1) -> Snapshot:
    return snapshot(record(stacks=found), effort=Effort(stacks=one_of))


def printed(of: Snapshot, *, interval: bool = False) -> str:
    stream = StringIO()
    text.console(stream).print(text.interval(of, "faults", 9) if interval else text.report(of))
    return stream.getvalue()


def test_a_report_tells_who_writes_the_most_first() -> None:
    said = printed(
        shown(
            Stack(REUSED, (PUT, Frame(0x66)), 1200),
            Stack(Event("write_faults", "other", "remote"), (), 1300),
            Stack(Event("write_faults", "other", "user"), (), 1),
            Stack(Event("protection_changes", "mprotect"), (PUT,), 9999),
        )
    )
    assert said.partition("Who writes, the most write faults first:\n")[2].splitlines() == [
        "  1,300 × other, remote: [another process or a kernel thread]",
        "      in 10000-20000 [anon] of worker 100",
        "  1,200 × wp_reuse, user: put+0x2 (g\\nc) < [unknown] 0x66",
        "      in 10000-20000 [anon] of worker 100",
        "  1 × other, user: [no address is known]",
        "      in 10000-20000 [anon] of worker 100",
    ]


def test_of_many_stacks_the_rest_is_counted_and_unnamed_places_say_why() -> None:
    found = [
        Stack(REUSED, (Frame(n, "/bin/gc", n, unnamed="it is no ELF file"),), 100 - n)
        for n in range(1, 13)
    ]
    said = printed(shown(*found))
    assert "  and 2 stacks more\n  no name in gc: it is no ELF file\n" in said
    assert "  and 9 stacks more\n" in printed(shown(*found), interval=True)


def test_a_sample_is_said_to_be_one() -> None:
    said = printed(shown(Stack(REUSED, (PUT,), 12), one_of=10))
    assert "These numbers are a sample: one of 10 write faults has a stack." in said
    assert "  12 × wp_reuse" in said


@pytest.mark.parametrize("one_of", [0, 1])
def test_where_nothing_was_noted_nothing_is_said(one_of: int) -> None:
    assert "Who writes" not in printed(shown(one_of=one_of))


def test_what_found_no_room_is_said() -> None:
    lost = snapshot(record(), effort=Effort(stacks=1), health=Health(stacks_full=7))
    assert "7 faults, calls or mappings of code found no room" in printed(lost)


@click.command()
@options.tracing(formats=("text", *options.PROFILES))
@click.argument("command", nargs=-1)
def command(request: options.Request, command: tuple[str, ...]) -> None:
    click.echo(f"{request.effort.stacks} {' '.join(command)}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "0 "),
        (("--stacks",), "1 "),
        (("--stacks", "--", "./x"), "1 ./x"),
        (("--stacks", "1/10", "./x"), "10 ./x"),
        (("--stacks=1/10",), "10 "),
        (("--stacks", "none"), "0 "),
        (("--format", "folded"), "1 "),
        (("--format", "pprof", "--stacks", "1/7"), "7 "),
    ],
)
def test_how_many_have_stacks(given: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(command, given)
    assert (done.exit_code, done.output) == (0, f"{said}\n")


@pytest.mark.parametrize("wrong", ["1/0", "1/x", "2/3", "./program"])
def test_what_is_no_share_is_refused(wrong: str) -> None:
    done = CliRunner().invoke(command, ["--stacks", wrong])
    assert done.exit_code == 2
    assert repr(wrong) in done.output
    if not wrong.startswith("1/"):
        assert "A command comes after --." in done.output
