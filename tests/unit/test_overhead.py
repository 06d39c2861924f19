"""docs/overhead.md: what was measured, and nothing else."""

from __future__ import annotations

from tests.scripts import script


def test_the_page_is_made_of_the_figures() -> None:
    """`python docs/overhead.py` writes it anew."""
    overhead = script("overhead")
    assert overhead.FILE.read_text("utf-8") == overhead.page()
