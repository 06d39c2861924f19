"""Where a guest of the lab has its programs compiled by its host."""

from __future__ import annotations

from pathlib import Path

import pytest

from pte_trace.errors import HostError
from pte_trace.programs import desk, image

KEY = "0123456789abcdef" * 4


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk that the kernel's command line names; nobody attends it yet."""
    command_line = tmp_path / "cmdline"
    command_line.write_text(f"quiet {desk.OPTION}={tmp_path / 'desk'} loglevel=4\n")
    monkeypatch.setattr(desk, "_COMMAND_LINE", command_line)
    return tmp_path / "desk"


def test_a_guest_is_told_what_its_host_compiled(place: Path) -> None:
    with desk.attended(place, lambda key, text: key.encode() + text):
        assert desk.ask(KEY, b"text") == KEY.encode() + b"text"
        other = KEY[::-1]
        assert desk.ask(other, b"another") == other.encode() + b"another"


def test_what_a_host_cannot_compile_the_guest_does(place: Path) -> None:
    with desk.attended(place, lambda *_: None):
        assert desk.ask(KEY, b"text") is None


def test_without_a_desk_nobody_is_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.ask(KEY, b"text") is None
    monkeypatch.setattr(desk, "_PATIENCE", 0.2)
    place.mkdir()
    assert desk.ask(KEY, b"text") is None


def test_who_may_not_write_there_compiles_for_himself(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(desk, "_put", refuse)
    assert desk.ask(KEY, b"text") is None


def test_no_other_file_is_looked_at(place: Path) -> None:
    asked: list[str] = []

    def answer(key: str, _: bytes) -> bytes:
        asked.append(key)
        return b"x"

    with desk.attended(place, answer):
        (place / "not a key.text").write_bytes(b"text")
        assert desk.ask(KEY, b"text") == b"x"
    assert asked == [KEY]


def test_a_guest_gets_only_what_it_would_make_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def compile_once(text: bytes) -> bytes:
        made.append(text)
        return b'{"tables": [], "programs": []}'

    monkeypatch.setattr(image, "_compiled", compile_once)
    key = image.key_of(b"text", "0.26.0")
    assert image.for_guest(key, b"text", "0.31.0", tmp_path / "kept") is None
    assert image.for_guest(key, b"another", "0.26.0", tmp_path / "kept") is None
    for _ in range(2):
        assert image.for_guest(key, b"text", "0.26.0", tmp_path / "kept") == compile_once(b"text")
    assert made == [b"text", b"text", b"text"]


def test_an_error_is_the_guests_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: bytes) -> bytes:
        raise HostError("It does not compile.", "Mend it.")

    monkeypatch.setattr(image, "_compiled", refuse)
    key = image.key_of(b"text", None)
    assert image.for_guest(key, b"text", None, tmp_path / "kept") is None
