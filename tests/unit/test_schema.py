"""The published schema: it is that of the documents, and refuses what is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator, ValidationError

from pte_trace.cli import cli
from pte_trace.counted.counters import FAMILIES
from pte_trace.views import document
from pte_trace.views.schema import schema
from tests.builders import record, snapshot
from tests.checked import check

FILE = Path(__file__).parents[2] / "docs/schema-1.json"


def some() -> dict[str, Any]:
    return document.document(snapshot(record(pid=7, comm="gc")))


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_command_writes_it_and_the_file_is_it() -> None:
    """`make manual` writes the file anew."""
    done = CliRunner().invoke(cli, ["schema"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == schema()
    assert FILE.read_text() == done.stdout


def test_a_document_is_of_the_schema() -> None:
    made = some()
    assert made["vmas"]
    check(made)


def test_every_counter_is_in_it() -> None:
    defined = schema()["$defs"]
    for family in FAMILIES:
        properties = defined["Row"]["properties"]
        assert family.said in properties[family.name]["description"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made.update(schema=2),
        lambda made: made.update(more=1),
        lambda made: made.pop("savings"),
        lambda made: made["totals"].pop("write_faults"),
        lambda made: made["totals"]["write_faults"].update(wp_reuse=-1),
        lambda made: made["totals"]["write_faults"].update(unheard_of=0),
        lambda made: made["vmas"][0].update(kind="unheard_of"),
        lambda made: made["vmas"][0].update(write_faults=None),
        lambda made: made["processes"][0].update(pid="7"),
        lambda made: made["health"]["ptes_not_inspected"].pop("limit"),
    ],
)
def test_what_is_no_document_is_refused(spoil: Callable[[dict[str, Any]], None]) -> None:
    made = json.loads(json.dumps(some()))
    spoil(made)
    with pytest.raises(ValidationError):
        check(made)


def test_what_a_test_writes_is_checked() -> None:
    with pytest.raises(ValidationError):
        json.dump({**some(), "more": 1}, StringIO())
