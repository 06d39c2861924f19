"""The benchmark counts exactly the faults that each kind of write must take on this kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pte_trace.bench.measure import SIZES
from tests.kernel.conftest import Finished

Command = Callable[..., Finished]
PAGE = 4096


def run(pte_trace: Command, *arguments: object) -> dict[str, Any]:
    done = pte_trace("bench", "--format", "json", *arguments)
    assert done.status == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["lost_events"] == 0
    return document


def taken(entry: dict[str, Any]) -> dict[str, float]:
    return {outcome: number for outcome, number in entry["write_faults"].items() if number}


@pytest.mark.once
def test_each_write_takes_exactly_its_faults(pte_trace: Command, optimized: bool) -> None:
    document = run(pte_trace, "--iterations", 2)

    assert document["kernel"]["optimization"] is optimized
    assert [case["size"] for case in document["cases"]] == [size for size in SIZES for _ in "12"]
    for case in document["cases"]:
        pages = case["size"] // PAGE
        expected = {
            "first": {"other": pages},
            "second": {},
            "mprotect": {} if optimized else {"wp_reuse": pages},
            "soft_dirty": {"wp_reuse": pages},
        }
        if not document["soft_dirty"]:
            del expected["soft_dirty"]
        assert {phase: taken(write) for phase, write in case["writes"].items()} == expected


@pytest.mark.once
def test_the_loops_take_exactly_their_faults(pte_trace: Command, optimized: bool) -> None:
    document = run(pte_trace, "--size", "1M", "--loops", 2)

    assert taken(document) == ({} if optimized else {"wp_reuse": 256})
    assert document["seconds"] > 0
