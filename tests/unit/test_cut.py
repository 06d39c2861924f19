"""Names that are cut: how long, how it shows, and that none becomes another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pte_trace.views.cut import LONGEST, cut
from pte_trace.views.printable import printable

TEXTS = st.text(st.characters(), max_size=300)


def test_what_fits_is_as_it_is() -> None:
    for text in ("", "postgres", "x" * LONGEST, "ä" * (LONGEST // 2), "…", "a…0123"):
        assert cut(text) == text


def test_what_is_longer_shows_that_it_was_cut() -> None:
    shown = cut("x" * (LONGEST + 1))
    assert shown.startswith("xxxxxxxx")
    assert "x…" in shown
    assert len(shown.encode()) == LONGEST


def test_two_names_that_begin_alike_stay_two() -> None:
    begun = "x" * 1000
    assert len({cut(begun + end) for end in ("", "x", "y", "\0")}) == 4


def test_nobody_is_called_as_another_was_cut() -> None:
    long = "x" * 1000
    assert cut(cut(long)) != cut(long)


def test_control_characters_make_nothing_longer() -> None:
    assert len(cut("\1" * 253).encode()) == LONGEST


@given(TEXTS, TEXTS)
def test_names_that_show_as_two_stay_two(one: str, other: str) -> None:
    assert len(cut(one).encode()) <= LONGEST
    assert (cut(one, 24) == cut(other, 24)) <= (printable(one) == printable(other))


@given(TEXTS)
def test_it_is_printable(text: str) -> None:
    assert cut(text, 30).isprintable()
