"""docs/overhead.md and docs/peers.md: what was measured, and nothing else."""

from __future__ import annotations

from tests.bench import peers
from tests.scripts import script


def test_the_page_is_made_of_the_figures() -> None:
    """`python docs/overhead.py` writes it anew."""
    overhead = script("overhead")
    assert overhead.FILE.read_text("utf-8") == overhead.page()


def test_the_page_of_other_tools_is_made_of_the_figures() -> None:
    """`make bench-peers` writes it anew."""
    assert peers.PAGE.read_text("utf-8") == peers.page()


def test_what_was_measured_is_within_the_limits() -> None:
    above = [limit.what for limit in script("overhead").limits() if limit.takes > limit.most]
    # Each is explained in the page, under *What cannot be had*.
    assert above == [
        "a write-protect fault on `bookworm`, everything: of what bpftrace adds",
        "a write-protect fault on `bookworm`, --costs none: of what bpftrace adds",
        "a write-protect fault on `trixie`, everything: of what bpftrace adds",
        "a write-protect fault on `trixie`, --costs none: of what bpftrace adds",
        "a write-protect fault on `sid`, --costs none: of what bpftrace adds",
        "a read fault, everything, on `sid`: of that on `bookworm`",
        "a first touch, everything, on `sid`: of that on `bookworm`",
        "`mprotect(PROT_READ)` of one page, everything, on `sid`: of that on `bookworm`",
        "`mprotect(PROT_READ | PROT_WRITE)` of one page, everything, on `sid`: of that on"
        " `bookworm`",
        "all tables of `run` on `bookworm`, 64 CPUs: MB",
        "all tables of `run` on `trixie`, 64 CPUs: MB",
        "all tables of `run` on `sid`, 64 CPUs: MB",
    ]
