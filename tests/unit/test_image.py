"""Compiled programs: what is kept, what is trusted, and what the compiler's answer means."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pte_trace import user_cache
from pte_trace.errors import HostError
from pte_trace.programs import compiler, image
from pte_trace.programs.compiler import (
    FIRST_LINKED,
    FIRST_OF_KERNEL,
    FIRST_VALUE,
    with_functions,
    with_kernel_functions,
    with_tables,
    with_values,
)
from pte_trace.programs.program import kernel_tree, source_directory

LOAD_TABLE = struct.pack("=BBhiQ", 0x18, 0x11, 0, 7, 0)
# The same bytes as LOAD_TABLE's first, in the upper half of a number.
LOAD_NUMBER = struct.pack("=BBhi", 0x18, 0x02, 0, 7) + LOAD_TABLE[:8]
CALL_FUNCTION = struct.pack("=BBhi", 0x85, 0, 0, FIRST_LINKED + 1)
EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)
TABLE = {"name": "t", "type": 1, "key_size": 4, "value_size": 8, "entries": 9, "flags": 0}


def compiled(*names: str) -> bytes:
    code = base64.b64encode(EXIT).decode()
    programs = [{"name": name, "code": code, "functions": [0]} for name in names]
    return json.dumps({"tables": [TABLE], "programs": programs}).encode()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_cache, "directory", lambda: tmp_path / "pte-trace")
    return tmp_path / "pte-trace" / "programs"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The texts that the compiler was given; it answers with one program."""
    texts: list[bytes] = []

    def run(*_: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
        texts.append(options["input"])
        return subprocess.CompletedProcess([], 0, compiled("kfunc__f"), b"")

    monkeypatch.setattr(subprocess, "run", run)
    return texts


def test_a_text_is_compiled_once(asked: list[bytes]) -> None:
    first = image.of(b"text", "0.26.0")
    assert image.of(b"text", "0.26.0") == first
    assert asked == [b"text"]
    assert first.programs == (image.Program("fentry", "f", EXIT, (0,)),)
    assert first.tables == (image.TableShape("t", 1, 4, 8, 9, 0),)


def test_another_text_or_version_is_compiled(asked: list[bytes]) -> None:
    for text, version in ((b"a", "0.26.0"), (b"b", "0.26.0"), (b"a", "0.31.0"), (b"a", None)):
        image.of(text, version)
    assert len(asked) == 4


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"tables": [1], "programs": []}'])
def test_what_is_damaged_is_made_again(asked: list[bytes], cache: Path, damaged: bytes) -> None:
    image.of(b"text", None)
    (kept,) = cache.iterdir()
    kept.write_bytes(damaged)
    image.of(b"text", None)
    image.of(b"text", None)
    assert len(asked) == 2


@pytest.mark.parametrize("mode", [0o722, 0o702, 0o720])
@pytest.mark.parametrize("part", ["file", "directory"])
def test_what_others_may_write_is_not_trusted(
    asked: list[bytes], cache: Path, part: str, mode: int
) -> None:
    image.of(b"text", None)
    (kept,) = cache.iterdir()
    (kept if part == "file" else cache).chmod(mode)
    image.of(b"text", None)
    assert len(asked) == 2


def test_what_another_user_wrote_is_not_trusted(
    asked: list[bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image.of(b"text", None)
    (kept,) = cache.iterdir()
    if os.geteuid() == 0:
        os.chown(kept, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    image.of(b"text", None)
    assert len(asked) == 2


def test_nobody_else_may_read_or_write_what_is_kept(asked: list[bytes], cache: Path) -> None:
    image.of(b"text", None)
    (kept,) = cache.iterdir()
    assert cache.stat().st_mode & 0o777 == 0o700
    assert kept.stat().st_mode & 0o777 == 0o600


def test_the_least_used_make_room(
    asked: list[bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_KEPT", 2)
    for text in (b"a", b"b", b"a", b"c", b"a"):
        image.of(text, None)
        time.sleep(0.02)  # files' times are those of the kernel's tick
    assert asked == [b"a", b"b", b"c"]
    assert len(list(cache.iterdir())) == 2


def test_without_a_cache_it_is_compiled_each_time(asked: list[bytes], cache: Path) -> None:
    cache.parent.touch()
    assert image.of(b"text", None) == image.of(b"text", None)
    assert len(asked) == 2


def test_a_user_without_a_home_has_no_cache(
    asked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere() -> Path:
        raise HostError("no home", "have one")

    monkeypatch.setattr(user_cache, "directory", nowhere)
    assert image.of(b"text", None) == image.of(b"text", None)
    assert len(asked) == 2


@pytest.mark.parametrize("part", ["file", "directory"])
def test_a_link_is_not_followed(asked: list[bytes], cache: Path, part: str) -> None:
    image.of(b"text", None)
    (kept,) = cache.iterdir()
    moved = kept if part == "file" else cache
    elsewhere = moved.rename(cache.parent.parent / "elsewhere")
    moved.symlink_to(elsewhere)
    image.of(b"text", None)
    assert len(asked) == 2
    # Nor is anything kept behind it.
    assert len(list(cache.iterdir())) == 1


def test_what_is_read_is_what_was_looked_at(
    asked: list[bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory is another as soon as it was opened."""
    image.of(b"text", None)
    mine, theirs = cache.rename(cache.parent / "mine"), cache.parent / "theirs"
    theirs.mkdir()
    (kept,) = mine.iterdir()
    theirs.joinpath(kept.name).write_bytes(compiled("kfunc__evil"))
    cache.symlink_to(mine)
    real = os.open

    def swapping(path: Any, flags: int, mode: int = 0o777, **options: Any) -> int:
        if path == cache:
            opened = real(mine, flags, mode)
            cache.unlink()
            cache.symlink_to(theirs)
            return opened
        return real(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", swapping)
    assert image.of(b"text", None).programs[0].function == "f"
    assert asked == [b"text"]


def test_nothing_else_makes_room(
    asked: list[bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "_KEPT", 1)
    cache.mkdir(parents=True)
    others = [cache / name for name in ("notes", "a.json", "0" * 64)]
    for each in others:
        each.touch()
    (left := cache / f"{'0' * 64}.json.x_1").touch()
    time.sleep(0.02)
    image.of(b"text", None)
    assert all(each.exists() for each in others)
    assert not left.exists()


@pytest.mark.parametrize("parent", ["1", "4194305"])
def test_the_compiler_ends_where_its_parent_has(parent: str) -> None:
    """It may end before the kernel is asked to tell of that."""
    done = subprocess.run(
        [sys.executable, "-I", compiler.__file__, parent],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize(
    ("name", "kind", "at_return"),
    [
        ("kfunc__f", "fentry", False),
        ("kfunc__vmlinux__f", "fentry", False),
        ("kretfunc__f", "fexit", True),
        ("kretfunc__vmlinux__f", "fexit", True),
        ("raw_tracepoint__f", "raw_tracepoint", False),
        ("enter_f", "kprobe", False),
        ("leave_f", "kretprobe", True),
        ("session_f", "session", False),
        ("learn__f", "learner", False),
    ],
)
def test_names_tell_where_a_program_belongs(
    asked: list[bytes], monkeypatch: pytest.MonkeyPatch, name: str, kind: str, at_return: bool
) -> None:
    monkeypatch.setattr(image, "_compiled", lambda _: compiled(name))
    (program,) = image.of(b"text", None).programs
    assert (program.kind, program.function, program.at_return) == (kind, "f", at_return)


def test_only_addresses_of_tables_are_changed() -> None:
    moved = with_tables(LOAD_NUMBER + LOAD_TABLE + EXIT, {7: 3})
    assert moved == LOAD_NUMBER + LOAD_TABLE.replace(b"\x07", b"\x03") + EXIT


def test_a_number_that_stands_for_a_value_becomes_its_address() -> None:
    """The lower half stays: it is how far into the value."""

    def load(registers: int, lower: int, upper: int) -> bytes:
        return struct.pack("=BBhiiI", 0x18, registers, 0, lower, 0, upper)

    numbers = load(0x03, 24, FIRST_VALUE + 2) + load(0x03, 24, FIRST_VALUE + 1) + LOAD_TABLE
    addresses = struct.pack("=BBhiii", 0x18, 0x23, 0, 5, 0, 24) + numbers[16:]
    assert with_values(numbers, {2: 5}) == addresses
    # Where the table is comes last, as for one that is looked up.
    assert with_tables(addresses, {5: 9, 7: 8})[4] == 9


@pytest.mark.parametrize("numbered", [r"#define VALUE_\w+\s+(\d+)$", r"= LINKED_FUNCTION\((\d+)\)"])
def test_no_two_of_the_programs_have_one_number(numbered: str) -> None:
    """Where one is only there with a filter, nothing but that filter's programs would tell."""
    texts = [path.read_text() for path in Path(str(source_directory())).glob("*.[ch]")]
    numbers = [number for text in texts for number in re.findall(numbered, text, re.MULTILINE)]
    assert len(numbers) == len(set(numbers)) >= 4


def test_a_function_of_the_kernel_is_called_by_its_id() -> None:
    code = struct.pack("=BBhi", 0x85, 0, 0, FIRST_OF_KERNEL + 1234) + CALL_FUNCTION + EXIT
    called = struct.pack("=BBhi", 0x85, 0x20, 0, 1234) + CALL_FUNCTION + EXIT
    assert with_kernel_functions(code) == called


def call(distance: int) -> bytes:
    return struct.pack("=BBhi", 0x85, 0x10, 0, distance)


def test_what_a_program_calls_is_behind_it() -> None:
    code = LOAD_NUMBER + CALL_FUNCTION + EXIT + CALL_FUNCTION + EXIT
    linked, starts = with_functions(code, {0: EXIT, 1: LOAD_TABLE + EXIT})
    assert linked == LOAD_NUMBER + call(3) + EXIT + call(1) + EXIT + LOAD_TABLE + EXIT
    assert starts == [0, 6]


def test_each_function_is_called_where_it_is() -> None:
    other = CALL_FUNCTION.replace(b"\x01\xff", b"\x00\xff")
    linked, starts = with_functions(other + CALL_FUNCTION, {0: LOAD_TABLE + EXIT, 1: EXIT})
    assert linked == call(1) + call(3) + LOAD_TABLE + EXIT + EXIT
    assert starts == [0, 2, 5]


def test_a_program_that_calls_nothing_is_as_it_was() -> None:
    # What looks like a call is the upper half of a number.
    number = struct.pack("=BBhi", 0x18, 0x02, 0, 7) + CALL_FUNCTION
    assert with_functions(number + EXIT, {1: EXIT}) == (number + EXIT, [0])


def test_what_does_not_compile_is_told_with_the_last_error(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"first\nx.c:1:2: error: no such type\n  that;\n1 warning and 1 error generated.\n\n"
    failed: Any = subprocess.CompletedProcess([], 1, b"", said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(HostError, match=r"could not be loaded: x\.c:1:2: error: no such type"):
        image.of(b"text", None)


def test_the_tree_of_headers_is_part_of_the_package() -> None:
    assert Path(kernel_tree()).is_absolute()
    assert Path(kernel_tree()).samefile(str(source_directory() / "kernel"))
