"""-o: what becomes of the file."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import NoReturn
from unittest.mock import MagicMock

import pytest

from pte_trace.cli import cli
from pte_trace.commands import options, record
from pte_trace.errors import CommandError, HostError

COMMANDS = pytest.mark.parametrize(
    "arguments",
    [
        ["top", "-o", "r.parquet"],
        ["run", "-o", "r.parquet", "--", "true"],
        ["record", "-o", "r.parquet"],
        ["record", "-o", "r.parquet", "--", "true"],
    ],
    ids=" ".join,
)


@pytest.fixture(autouse=True)
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be traced."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise HostError("This host cannot be traced.", "Take another.")

    monkeypatch.setattr(options.Request, "session", refuse)
    monkeypatch.chdir(tmp_path)


@COMMANDS
def test_what_is_refused_leaves_the_file_as_it_was(arguments: list[str]) -> None:
    path = Path("r.parquet")
    path.write_text("a day's work")
    with pytest.raises(HostError):
        cli.main(arguments, standalone_mode=False)
    assert path.read_text() == "a day's work"


@COMMANDS
def test_what_is_refused_makes_no_file(arguments: list[str]) -> None:
    with pytest.raises(HostError):
        cli.main(arguments, standalone_mode=False)
    assert os.listdir() == []


def write(path: Path, said: str) -> None:
    with options.output(path, None) as stream:  # type: ignore[arg-type]
        stream.write(said)


def test_nothing_is_left_of_what_the_file_held() -> None:
    path = Path("out")
    write(path, "long and old\n" * 10_000)
    write(path, "new\n")
    assert path.read_text() == "new\n"


def test_a_link_stays_one_and_permissions_stay() -> None:
    path = Path("out")
    path.write_text("old")
    path.chmod(0o640)
    Path("link").symlink_to(path)
    write(Path("link"), "new")
    assert Path("link").is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)


def test_each_flush_can_be_followed() -> None:
    """As `tail -f` does."""
    path = Path("out")
    with options.output(path, None) as stream:  # type: ignore[arg-type]
        for so_far in ("one\n", "one\ntwo\n"):
            stream.write(so_far.splitlines()[-1] + "\n")
            stream.flush()
            assert path.read_text() == so_far


def test_a_pipe_takes_the_output() -> None:
    os.mkfifo("pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe").read_text()))
    reader.start()
    write(Path("pipe"), "said\n")
    reader.join()
    assert read == ["said\n"]
    assert Path("pipe").is_fifo()


def test_a_command_that_is_not_found_leaves_the_recording_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(options.Request, "session", MagicMock())
    monkeypatch.setattr(record, "_metadata", MagicMock())
    path = Path("r.parquet")
    path.write_text("a day's work")
    with pytest.raises(CommandError):
        cli.main(["record", "-o", str(path), "--", "./no-such-program"], standalone_mode=False)
    assert path.read_text() == "a day's work"
