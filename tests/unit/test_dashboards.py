"""The dashboards: complete, and about metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from pte_trace.counted.snapshot import Health
from pte_trace.exporter.metrics import StateCollector
from tests.builders import counts, histogram, record
from tests.unit.test_metrics import state_of

ROOT = Path(__file__).parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in ROOT.glob("dashboards/*.json")}
# What Grafana brings itself.
TYPES = {"stat", "timeseries", "heatmap", "table"}
SERIES = re.compile(r"\b(?:(?:instance|release):)?(?:pte_trace|process)_[a-z_0-9:]+")


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, dashboard in DASHBOARDS.items():
        for panel in dashboard["panels"]:
            if panel["type"] != "row":
                yield name, panel


PANELS = [pytest.param(panel, id=f"{name}-{panel['title']}") for name, panel in panels()]


def known_series() -> set[str]:
    counted = counts(faults={"other": 1}, costs={"other": histogram(1)})
    state = state_of(
        record(counts=counted, name="[heap]"),
        record(counts=counts(costs={"wp_reuse": histogram(9)})),
        health=Health(probe_seconds=1.0),
    )
    exported = generate_latest(StateCollector(state, {}, "1")).decode()
    rules = yaml.safe_load((ROOT / "deploy/prometheus/recording.yml").read_text())
    return {line.split("{")[0].split(" ")[0] for line in exported.splitlines()} | {
        rule["record"] for group in rules["groups"] for rule in group["rules"]
    }


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["type"] in TYPES
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["options"]
    references = [target["refId"] for target in panel["targets"]]
    assert references
    assert len(set(references)) == len(references)
    assert all(references)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_for_series_there_are(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        asked = set(SERIES.findall(target["expr"]))
        assert asked
        assert asked <= known_series()


def test_the_fleet_asks_for_recorded_series_only() -> None:
    """So that it costs a series per machine or release, and works on a federated Prometheus."""
    for name, panel in panels():
        if name == "pte-trace-fleet":
            for target in panel["targets"]:
                asked = SERIES.findall(target["expr"])
                assert all(":" in series or series == "pte_trace_kernel_info" for series in asked)


def test_the_dashboards_lead_to_each_other() -> None:
    assert {dashboard["uid"] for dashboard in DASHBOARDS.values()} == set(DASHBOARDS)
    for dashboard in DASHBOARDS.values():
        (link,) = dashboard["links"]
        assert set(link["tags"]) <= set(dashboard["tags"])
    assert "/d/pte-trace-machine?var-instance=${__data.fields.instance}" in json.dumps(
        DASHBOARDS["pte-trace-fleet"]
    )


def test_there_are_variables_for_the_source_and_the_machine() -> None:
    for name, dashboard in DASHBOARDS.items():
        variables = dashboard["templating"]["list"]
        assert {"datasource", "instance"} <= {variable["name"] for variable in variables}
        assert "$instance" in asked_of(name)


def asked_of(name: str) -> str:
    """All that the panels of one dashboard ask for."""
    targets = [target for where, panel in panels() if where == name for target in panel["targets"]]
    return "\n".join(target["expr"] for target in targets)


def titled(name: str, title: str) -> list[dict[str, Any]]:
    return [panel for where, panel in panels() if where == name and panel["title"] == title]


def test_what_an_efficacy_does_not_rest_on_is_beside_it() -> None:
    assert "pte_trace_ptes_not_inspected_total" in asked_of("pte-trace-machine")
    assert "pte_trace_series_folded_total" in asked_of("pte-trace-machine")
    assert "instance:pte_trace_inspected:ratio_rate5m" in asked_of("pte-trace-fleet")
    for name in DASHBOARDS:
        (efficacy,) = (each for each in titled(name, "Efficacy") if each["type"] == "stat")
        assert "Understated where not all PTEs were looked at" in efficacy["description"]
    (over_time,) = (
        each for each in titled("pte-trace-machine", "Efficacy") if each["type"] == "timeseries"
    )
    assert "not_inspected" in over_time["targets"][1]["expr"]


def test_seconds_each_second_are_no_seconds() -> None:
    for _, panel in panels():
        if any("saved_seconds:rate" in target["expr"] for target in panel["targets"]):
            assert panel["fieldConfig"]["defaults"]["unit"] == "suffix: CPUs", panel["title"]


def test_a_hook_that_may_be_missing_is_no_alarm() -> None:
    """Such a one has a series, as all have, which says that it is attached to nothing."""
    (panel,) = titled("pte-trace-machine", "Hooks not run")
    assert 'attached!=""' in panel["targets"][0]["expr"]


def test_panels_do_not_overlap() -> None:
    for dashboard in DASHBOARDS.values():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at.get("x", 0), at.get("x", 0) + at["w"])
                for y in range(at.get("y", 0), at.get("y", 0) + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert all(x < 24 for x, _ in cells)
            taken |= cells
