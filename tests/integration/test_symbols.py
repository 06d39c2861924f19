"""Names of functions from real files, beside what nm says of them."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pte_trace.counted.stacks import Named, Place
from pte_trace.symbols import elf
from pte_trace.symbols.names import names
from tests.symbols import mapped, named

SOURCE = """
static int inner(int value) { return value * 3 + 1; }
int weighty(int value) { return inner(value) / 7; }
int weighty_too(int value) __attribute__((alias("weighty")));
int __weighty(int value) __attribute__((alias("weighty")));
int method(int value) __asm__("_ZN5store4sizeEi");
int method(int value) { return value - 5; }
int broken(int value) __asm__("_Zbroken");
int broken(int value) { return value - 6; }
int grows(int value) __asm__("%s");
int grows(int value) { return value - 7; }
int data = 5;
"""
# pair<int, int>, a pair of two of these, a pair of two of those, and so on: 2^40 of them.
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PAIRS = [f"S{_DIGITS[at]}_" for at in range(35)] + [f"S1{_DIGITS[at]}_" for at in range(5)]
GROWS = "_Z1fSt4pairIiiE" + "".join(f"S_I{each}{each}E" for each in _PAIRS)
PAGE = 4096


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("symbols") / "library.so"
    command = ["gcc", "-O0", "-shared", "-fPIC", "-Wl,--build-id", "-xc", "-", "-o", str(made)]
    subprocess.run(command, input=SOURCE % GROWS, text=True, check=True)
    return made


def symbols(path: Path) -> Mapping[str, tuple[int, int]]:
    """Address and size of the functions, by nm."""
    lines = subprocess.run(
        ["nm", "-S", path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    fields = [line.split() for line in lines]
    return {each[3]: (int(each[0], 16), int(each[1], 16)) for each in fields if len(each) == 4}


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("inner", "inner"),
        ("weighty", "weighty"),
        ("_ZN5store4sizeEi", "store::size(int)"),
        ("_Zbroken", "_Zbroken"),
    ],
)
def test_functions_have_their_names_from_end_to_end(library: Path, symbol: str, name: str) -> None:
    start, size = symbols(library)[symbol]
    assert named(library, start) == Named(f"{name}+0x1", start + 1)
    assert named(library, start + size - 1) == Named(f"{name}+{size:#x}", start + size)
    assert name not in str(named(library, start + size).function)


def test_a_name_that_would_fill_the_memory_stays_as_it_is(library: Path) -> None:
    start, _ = symbols(library)[GROWS]
    assert named(library, start)[0] == f"{GROWS}+0x1"


def test_what_is_no_function_has_no_name(library: Path) -> None:
    (start, _) = symbols(library)["data"]
    assert named(library, start)[0] is None


def test_a_stripped_file_has_the_names_it_exports(library: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, library], check=True)
    addresses = symbols(library)
    assert named(stripped, addresses["weighty"][0])[0] == "weighty+0x1"
    inner = addresses["inner"][0]
    assert named(stripped, inner) == Named(None, inner + 1, "its symbols name no function there")


@pytest.fixture
def separate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where everybody may look, as in /usr/lib/debug."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        monkeypatch.setattr(elf, "SEPARATE", Path(directory))
        yield Path(directory)


def test_a_files_symbols_may_be_kept_apart(library: Path, tmp_path: Path, separate: Path) -> None:
    notes = subprocess.run(
        ["readelf", "-n", library], capture_output=True, text=True, check=True
    ).stdout
    build_id = notes.split("Build ID:")[1].split()[0]
    (separate / build_id[:2]).mkdir()
    debug = separate / build_id[:2] / f"{build_id[2:]}.debug"
    subprocess.run(["objcopy", "--only-keep-debug", library, debug], check=True)
    stripped = tmp_path / "stripped.so"
    subprocess.run(["strip", "-o", stripped, library], check=True)
    assert named(stripped, symbols(library)["inner"][0])[0] == "inner+0x1"


def test_another_file_in_its_place_is_not_believed(library: Path) -> None:
    place = Place(mapped(library, inode=library.stat().st_ino + 1), PAGE)
    assert names([place])[place] == Named(why="another file has its name now")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is no ELF file"),
        (b"#!/bin/sh\n", "it is no ELF file"),
        (b"\x7fELF", "it contradicts itself"),
        (b"\x7fELF" + b"\x02" * 60, "it is of another kind of machine"),
    ],
)
def test_what_is_no_program_has_no_symbols(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert named(path, 0) == Named(why=why)


def test_a_file_that_is_gone_has_no_symbols(library: Path, tmp_path: Path) -> None:
    place = Place(mapped(library, name=str(tmp_path / "gone")), 0)
    assert names([place])[place] == Named(why="no such file or directory")
