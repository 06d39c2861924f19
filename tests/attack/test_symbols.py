"""Programs of strangers, whose symbols `explain --stacks` reads: a name, or why there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack import elf_files
from tests.attack.bounded import Ended, python
from tests.attack.elf_files import HONEST_AT, HOSTILE

# What the report does with the places in one file, or in more.
SCRIPT = """
import json, sys
from pathlib import Path
from pte_trace.counted.stacks import Place
from pte_trace.symbols.names import names
from tests.symbols import mapped

places = [Place(mapped(Path(path)), int(offset)) for path in sys.argv[2:]
          for offset in sys.argv[1].split(",")]
found = names(places)
print(json.dumps([found[place] for place in places]))
"""
Told = list[list[str | None]]


def told(*paths: Path, offsets: str = f"{HONEST_AT},5") -> tuple[Told, Ended]:
    """Function, address and why there is no function, for each file and offset."""
    ended = python(SCRIPT, offsets, *paths).check(0)
    found: Told = json.loads(ended.stdout)
    return found, ended


# Where nothing but what is asked for is read, these have their name all the same.
NAMED = {
    "1,000 symbols with one name of 20 MB": "honest",
    "60,000 sections that are one table": "honest",
    "a build ID of 4 GiB": "honest",
    "a table larger than the file": "honest",
    "a million functions at one place": "x",
    "functions that are everywhere": "honest",
    "names that do not end": "honest",
    "a million notes": "honest",
    "notes that contradict themselves": "honest",
    "10,000 sections of notes": "honest",
    "a build ID that leads elsewhere": "honest",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_has_a_name_or_says_why(tmp_path: Path, what: str) -> None:
    path = HOSTILE[what]().write(tmp_path / "program")
    found, _ = told(path)
    for function, _, why in found:
        assert (function is None) is (why is not None)
        assert function is None or len(function) < 1100
    if what in NAMED:
        assert found[0][0] == f"{NAMED[what]}+0x1"


def test_however_many_of_them_there_are(tmp_path: Path) -> None:
    """A second each is too much for a hundred."""
    slow = HOSTILE["a table of a terabyte"]()
    paths = [slow.write(tmp_path / str(number)) for number in range(100)]
    plain = elf_files.PLAIN.write(tmp_path / "plain")
    found, _ = told(plain, *paths)
    assert found[0][0] == "honest+0x1"
    whys = {why for _, _, why in found[2:]}
    assert whys == {"it takes too long", "the names in other files took too long"}


def test_a_name_that_is_too_long_is_cut_and_looks_it(tmp_path: Path) -> None:
    name = b"n" * 1500 + b"\0"
    path = elf_files.Elf(
        (
            elf_files.Section(elf_files.STRTAB, b"\0" + name),
            elf_files.Section(elf_files.SYMTAB, elf_files.symbol(1), link=1),
        )
    ).write(tmp_path / "program")
    found, _ = told(path)
    assert found[0][0] == "n" * 1000 + "…+0x1"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero


def link(path: Path) -> None:
    """To the very file that was mapped."""
    path.symlink_to("original")


def other(path: Path) -> None:
    elf_files.PLAIN.write(path)


@pytest.mark.parametrize(
    ("put", "why"),
    [
        (fifo, "what has its name now is no regular file"),
        (directory, "what has its name now is no regular file"),
        pytest.param(
            device,
            "what has its name now is no regular file",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices"),
        ),
        (link, "too many levels of symbolic links"),
        (other, "another file has its name now"),
    ],
)
def test_what_was_put_in_its_place_is_not_read(
    tmp_path: Path, put: Callable[[Path], None], why: str
) -> None:
    """As it was when it was mapped, and as it is when it is looked for."""
    path = tmp_path / "program"
    elf_files.PLAIN.write(path)
    script = SCRIPT.replace(
        "found = names",
        "Path(sys.argv[2]).rename(Path(sys.argv[2]).with_name('original')); "
        "import tests.attack.test_symbols as here; "
        f"here.{put.__name__}(Path(sys.argv[2])); found = names",
    )
    ended = python(script, HONEST_AT, path).check(0)
    assert json.loads(ended.stdout) == [[None, None, why]]
