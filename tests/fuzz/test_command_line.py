"""Command lines of anything end with a status and, where that is not 0, with a sentence."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import MagicMock

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pte_trace import __main__
from pte_trace.cli import cli
from pte_trace.commands import bench, lab, options
from pte_trace.errors import HostError
from pte_trace.host import facts
from pte_trace.lab.kernels import check_names
from tests.builders import host
from tests.fuzz.examples import one_of

pytestmark = pytest.mark.timeout(3600)

STATUSES = {0, 1, 2, 3}


def commands(of: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield names, of
    if isinstance(of, click.Group):
        context = click.Context(of)
        for name in of.list_commands(context):
            inner = of.get_command(context, name)
            assert inner is not None
            yield from commands(inner, *names, name)


COMMANDS = dict(commands(cli))
# A command line has no NUL. Without slashes all is in the test's own directory.
WORDS = st.text(st.characters(exclude_characters="\0/", exclude_categories=()), max_size=12)
# As Python has what is not UTF-8 in sys.argv.
BYTES = st.binary(max_size=12).map(
    lambda word: word.replace(b"\0", b"").replace(b"/", b"").decode("utf-8", "surrogateescape")
)
VALUES = BYTES | st.sampled_from(
    [
        *("", "-", "--", ".", "=", "%s", "{}", "\x1b[2J", "a\nb", "x" * 300, "x" * 5000),
        *("0", "1", "-1", "1e308", "1e-320", "nan", "inf", "-inf", "1_0", "٣", "0x10", "²"),
        *(
            "9" * 25,
            "9" * 5000,
            "1/" + "9" * 25,
            "1/0",
            "1/100",
            "all",
            "none",
            "1G",
            "9" * 25 + "G",
        ),
        *(":80", ":99999", "[::1]:0", "127.0.0.1:0", "1:" + "9" * 5000, "unix:", "unix:s"),
        *("a=b", "a=", "=b", "__a=b", "le=x", "r.parquet", "r.csv", "json", "text", "faults"),
        *("bookworm", "sid", "6.1", "9" * 5000 + "M", "512M"),
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> list[str]:
    """A command, and what may follow it: mostly options that it has."""
    names = draw(st.sampled_from(sorted(COMMANDS)))
    known = [name for each in COMMANDS[names].params for name in each.opts if name.startswith("-")]
    option = st.sampled_from(known or ["--help"])
    pairs = draw(
        st.lists(st.tuples(option, VALUES) | st.tuples(option) | st.tuples(VALUES), max_size=4)
    )
    return [*names, *(word for pair in pairs for word in pair)]


@pytest.fixture(autouse=True)
def harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is traced, booted, fetched, built, measured or looked up."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise HostError("This host cannot be traced.", "Take another.")

    look_up = socket.getaddrinfo

    def numeric(*arguments: Any, **named: Any) -> Any:
        return look_up(*arguments, **{**named, "flags": socket.AI_NUMERICHOST})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PTE_TRACE_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(options.Request, "session", refuse)
    monkeypatch.setattr(bench, "Bench", refuse)
    monkeypatch.setattr(facts, "collect", lambda *_: host())
    monkeypatch.setattr(socket, "getaddrinfo", numeric)
    for name in ("Builder", "Fetcher"):
        monkeypatch.setattr(lab, name, MagicMock())
    monkeypatch.setattr(lab, "ready", lambda name, _: check_names([name]))
    monkeypatch.setattr(lab, "stream", lambda *_: 0)


def run(words: list[str]) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patched:
        err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
        patched.setattr(sys, "argv", ["pte-trace", *words])
        patched.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        patched.setattr(sys, "stderr", err)
        status = __main__._run()
        err.flush()
        err.seek(0)
        return status, err.read()


@one_of(1)
@given(words=lines() | st.lists(VALUES, max_size=4))
@example(words=["top", "-i", "1e300"])
@example(words=["top", "--replay", "r", "--speed", "1e-320"])
@example(words=["lab", "run", "--forward", "1:" + "9" * 5000, "--", "true"])
@example(words=["serve", "--listen", ":" + "9" * 5000])
@example(words=["bench", "--size", "9" * 5000])
@example(words=["lab", "run", "--timeout", "1e300", "--", "true"])
@example(words=["explain", "-d", "1e300", "-p", "1"])
def test_it_ends_with_a_status_and_a_sentence(words: list[str]) -> None:
    status, said = run(words)
    assert status in STATUSES
    assert bool(said.strip()) is (status != 0)
    assert "Traceback" not in said
