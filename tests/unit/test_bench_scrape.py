"""The benchmark of a scrape, by time instead of instructions, and how its figures are quoted."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench import scrape
from tests.scripts import script


def test_a_scrape_takes_twice_as_long_as_static_counters_at_most(tmp_path: Path) -> None:
    found = scrape.measure()
    ours, theirs = found["ways"].values()
    assert abs(found["series"] - scrape.SERIES) < scrape.SERIES / 20
    assert ours < scrape.MOST * theirs

    path = tmp_path / "scrape.json"
    overhead = script("overhead")
    assert list(overhead._scrape(path)) == []
    path.write_text(json.dumps(found))
    quoted = "\n".join(overhead._scrape(path))
    assert f"Of {found['series']:,} series" in quoted
    assert f"| `pte-trace serve` | {ours / 1e6:,.1f} | {ours / theirs:.2f} |" in quoted
