"""The live view on a real terminal, fed with invented snapshots."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pte_trace.counted.order import SORT_FIELDS
from tests.builders import record, snapshot
from tests.recordings import interval, recorded
from tests.terminal import Terminal

# An hour's interval but for the first: what is shown then is shown because of a key or a signal.
PROGRAM = """
from pte_trace.__main__ import main
from pte_trace.commands import top
from pte_trace.views import live
from tests.builders import counts, record, snapshot

class Source:
    def read(self):
        live.time.monotonic = lambda: 0.0
        return snapshot(
            record(pid=1, comm="second", counts=counts(faults={"other": 1_234_567})),
            record(pid=2, comm="first", counts=counts(faults={"other": 7_654_321})),
        )
    def total(self):
        return snapshot(record(pid=3, comm="everything"))
    def processes_ended(self):
        return False

import click, sys
from pte_trace import cli
cli.cli.get_command = lambda ctx, name: click.Command(
    "top", callback=lambda: live.show(Source(), interval=0.1, count=None, sort="faults", rows=None)
)
sys.argv = ["pte-trace", "top"]
main()
"""


COMMAND = (sys.executable, "-c", PROGRAM)

# What a shell with job control does: say that the program stopped, and at Enter let it go on.
STOPPED = "It has stopped."
SHELL = f'set -m; "$@"; echo "{STOPPED}"; read _; fg >/dev/null; exit $?'


@contextmanager
def live_view(
    columns: int = 100, lines: int = 24, command: Sequence[str] = COMMAND
) -> Iterator[Terminal]:
    with Terminal(command, columns, lines) as terminal:
        terminal.wait(lambda shown: "second" in " ".join(shown) or "7,654,321" in " ".join(shown))
        yield terminal


def position(shown: list[str], word: str) -> int:
    return next(at for at, line in enumerate(shown) if word in line)


def test_keys_act_at_once_and_q_puts_the_terminal_back() -> None:
    with live_view() as terminal:
        shown = terminal.shown()
        assert position(shown, "first") < position(shown, "second")
        terminal.press("s" * SORT_FIELDS.index("pid"))
        shown = terminal.wait(lambda shown: any("by pid" in line for line in shown))
        assert position(shown, "second") < position(shown, "first")
        terminal.press("a")
        shown = terminal.wait(lambda shown: any("since the start" in line for line in shown))
        assert not any("second" in line for line in shown)
        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.as_before()
        assert any("everything" in line for line in terminal.shown())


def test_stopped_it_gives_the_terminal_back_and_goes_on_where_it_was() -> None:
    with live_view(command=("sh", "-c", SHELL, "sh", *COMMAND)) as terminal:
        terminal.press("a")
        terminal.wait(lambda shown: any("since the start" in line for line in shown))
        terminal.press("\x1a")
        terminal.wait(lambda shown: any(STOPPED in line for line in shown))
        assert terminal.as_before()
        terminal.press("\n")
        terminal.wait(lambda shown: "everything" in shown[2] and complete(shown))
        assert not terminal.as_before()
        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.as_before()


def test_a_recording_is_shown_to_its_end(tmp_path: Path) -> None:
    seen = [snapshot(record(pid=number, comm=f"job-{number}")) for number in (1, 2)]
    path = recorded(tmp_path / "r.parquet", map(interval, seen, (1, 2)))
    replay = ("-m", "pte_trace", "top", "--replay", str(path), "--speed", "10")
    with Terminal([sys.executable, *replay], 150) as terminal:
        assert terminal.ended() == 0
        assert terminal.as_before()
        shown = " ".join(terminal.shown())
        assert "job-1" in shown
        assert "job-2" in shown


def test_a_new_size_is_filled_at_once_without_junk() -> None:
    with live_view(150, 24) as terminal:
        terminal.wait(lambda shown: "RANGE" in shown[1])
        terminal.resize(40, 10)
        fits(terminal.wait(narrow))
        terminal.resize(150, 30)
        shown = terminal.wait(lambda shown: "RANGE" in shown[1] and complete(shown))
        assert sum("FAULTS" in line for line in shown) == 1
        assert sum("q quit" in line for line in shown) == 1
        terminal.press("q")
        assert terminal.ended() == 0


def test_a_small_terminal_is_enough() -> None:
    with live_view(40, 10) as terminal:
        fits(terminal.wait(narrow))


def complete(shown: list[str]) -> bool:
    """Whether the whole view has come, to its last line."""
    saved = next((at for at, line in enumerate(shown) if line.startswith("Time saved")), len(shown))
    return any("q quit" in line for line in shown[saved:])


def narrow(shown: list[str]) -> bool:
    return "FAULTS" in shown[1] and "RANGE" not in shown[1] and complete(shown)


def fits(shown: list[str]) -> None:
    """40 by 10: whole numbers, the order of the rows, the keys."""
    assert len(shown) == 10
    assert "7,654,321" in shown[2]
    assert "1,234,567" in shown[3]
    assert "8,888,888" in shown[4]
    assert sum("q quit" in line for line in shown) == 1


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_puts_the_terminal_back(number: signal.Signals, status: int) -> None:
    with live_view() as terminal:
        if number is signal.SIGINT:
            terminal.press("\x03")
        else:
            terminal.signal(number)
        assert terminal.ended() == status
        assert terminal.as_before()
