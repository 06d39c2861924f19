"""No name can write to a terminal what its process likes."""

from __future__ import annotations

import pytest

from pte_trace.views.printable import cell, printable


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("java", "java"),
        ("with space", "with space"),
        ("ünï", "ünï"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\rc\td", "a\\nb\\rc\\td"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\\xe9", "caf\\xe9"),
        ("\udcff", "\\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(given: str, shown: str) -> None:
    assert printable(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("=1+2", "'=1+2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-bash", "'-bash"),
        ("+1", "'+1"),
        ("1+1", "1+1"),
        ("[anon]", "[anon]"),
        ("\t=1", "\\t=1"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(given: str, shown: str) -> None:
    assert cell(given) == shown
