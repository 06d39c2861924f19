"""docs/overhead.md: what was measured, and nothing else."""

from __future__ import annotations

from tests.scripts import script


def test_the_page_is_made_of_the_figures() -> None:
    """`python docs/overhead.py` writes it anew."""
    overhead = script("overhead")
    assert overhead.FILE.read_text("utf-8") == overhead.page()


def test_what_was_measured_is_within_the_limits() -> None:
    above = [limit.what for limit in script("overhead").limits() if limit.takes > limit.most]
    # Calling programs that do nothing is more than that already.
    assert above == ["a write-protect fault, not selected: of what bpftrace adds"]
