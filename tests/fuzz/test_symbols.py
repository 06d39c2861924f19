"""Programs of anybody, whose symbols are read: damaged, they have names or none."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.examples import one_of
from tests.symbols import named

pytestmark = pytest.mark.timeout(3600)

SOURCE = "int helper(int value) { return value * 2; } int main(void) { return helper(3); }"
ELF_HEADER_SIZE = 64
SECTION_HEADERS_AT = slice(40, 48)


@cache
def program() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "program"
        command = ["gcc", "-Wl,--build-id", "-xc", "-", "-o", str(path)]
        subprocess.run(command, input=SOURCE, text=True, check=True)
        return path.read_bytes()


# In the file's header, its section headers, and anywhere.
PLACES = st.tuples(st.sampled_from(["header", "sections", "anywhere"]), st.integers(0, 1 << 16))


@one_of(1)
@given(
    changes=st.lists(st.tuples(PLACES, st.binary(min_size=1, max_size=8)), min_size=1),
    offset=st.integers(0, 1 << 16),
)
def test_a_damaged_program_has_names_or_none(
    tmp_path: Path, changes: list[tuple[tuple[str, int], bytes]], offset: int
) -> None:
    whole = program()
    sections = int.from_bytes(whole[SECTION_HEADERS_AT], "little")
    ranges = {
        "header": range(ELF_HEADER_SIZE),
        "sections": range(sections, len(whole)),
        "anywhere": range(len(whole)),
    }
    damaged = bytearray(whole)
    for (where, place), new in changes:
        begin = ranges[where][place % len(ranges[where])]
        damaged[begin : begin + len(new)] = new
    path = tmp_path / "program"
    path.write_bytes(damaged)
    found = named(path, offset)
    assert found.why if found.function is None else "+0x" in found.function
