"""A real Prometheus scrapes two real kernels: each panel and each rule has something to say."""

from __future__ import annotations

import json
import math
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.fleet import ROOT, Fleet, Machine, running

# Two guests under emulation start in three minutes on an idle machine of two cores.
pytestmark = pytest.mark.timeout(1200)

KERNELS = ("bullseye", "bookworm")
PAGES = 101
DASHBOARDS = {
    name: json.loads((ROOT / "dashboards" / f"pte-trace-{name}.json").read_text())
    for name in ("machine", "fleet")
}
# Panels that must be empty on these kernels, each with its reason.
EMPTY = {
    ("table", "Should have it and don't"): (
        KERNELS,
        "Linux 5.10 need not have the optimization, and 6.1 has it",
    ),
    ("table", "Most entries made writable"): (
        ("bullseye",),
        "Linux 5.10 does not have the optimization, so no mapping has any",
    ),
}
RECORDED_BUT_EMPTY = {"instance:pte_trace_kernel_lacks_optimization:info"}
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$comm": ".*",
    "$release": ".*",
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with running(KERNELS) as fleet:
        yield fleet


def panels(dashboard: str) -> Iterator[dict[str, Any]]:
    for panel in DASHBOARDS[dashboard]["panels"]:
        yield from panel.get("panels") or []
        if panel["type"] != "row":
            yield panel


PANELS = [
    pytest.param(panel, target["expr"], id=f"{name}-{panel['title']}-{number}")
    for name in DASHBOARDS
    for panel in panels(name)
    for number, target in enumerate(panel["targets"])
]


def filled_in(expr: str, machine: Machine) -> str:
    for name, value in {**VARIABLES, "$instance": machine.instance}.items():
        expr = expr.replace(name, value)
    assert "$" not in expr
    return expr


def samples(machine: Machine) -> dict[tuple[str, str, str, str], float]:
    """The write faults of /metrics by comm, kind, mapping and outcome."""
    return {
        tuple(
            sample.labels[label] for label in ("comm", "kind", "mapping", "outcome")
        ): sample.value  # type: ignore[misc]
        for family in text_string_to_metric_families(machine.get("/metrics"))
        for sample in family.samples
        if sample.name == "pte_trace_write_faults_total"
    }


def test_the_metrics_are_as_prometheus_wants_them(fleet: Fleet) -> None:
    for machine in fleet.machines:
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=machine.get("/metrics"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("panel", "expr"), PANELS)
def test_each_panel_has_data(fleet: Fleet, panel: dict[str, Any], expr: str) -> None:
    for machine in fleet.machines:
        found = fleet.prometheus.query(filled_in(expr, machine))
        kernels, _ = EMPTY.get((panel["type"], panel["title"]), ((), ""))
        if machine.kernel in kernels:
            assert found == []
        else:
            values = [float(each["value"][1]) for each in found]
            assert any(map(math.isfinite, values)), f"no data on {machine.kernel}: {found}"


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_each_variable_has_values(fleet: Fleet, dashboard: str) -> None:
    for variable in DASHBOARDS[dashboard]["templating"]["list"]:
        if variable["type"] == "datasource":
            continue
        asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert asked
        for machine in fleet.machines:
            selector = filled_in(asked[1], machine)
            path = f"label/{asked[2]}/values"
            assert fleet.prometheus.ask(path, **{"match[]": selector})


def test_each_rule_is_evaluated(fleet: Fleet) -> None:
    rules = [rule for group in fleet.prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    for rule in rules:
        if rule["type"] == "alerting":
            assert rule["state"] == "inactive", rule
        else:
            found = fleet.prometheus.query(rule["name"])
            assert bool(found) == (rule["name"] not in RECORDED_BUT_EMPTY), rule["name"]


def test_the_rules_are_those_that_were_written(fleet: Fleet) -> None:
    written = {
        rule.get("record") or rule["alert"]
        for name in ("recording.yml", "alerts.yml")
        for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / name).read_text())["groups"]
        for rule in group["rules"]
    }
    groups = fleet.prometheus.ask("rules")["groups"]
    assert {rule["name"] for group in groups for rule in group["rules"]} == written


def counted_by_run(machine: Machine, kind: str) -> Counter[str]:
    """What `run` counted in the workload's mappings of this kind, by metric and label."""
    counted: Counter[str] = Counter()
    for row in json.loads((machine.directory / "run.json").read_text())["vmas"]:
        if row["comm"] == "toggle" and row["kind"] == kind:
            counted.update({f"write_faults {name}": n for name, n in row["write_faults"].items()})
            changes = row["protection_changes"].items()
            counted.update({f"protection_changes {cause}": n for cause, n in changes})
            counted["ptes_changed mprotect"] += row["ptes_changed"]
            counted["ptes_made_writable mprotect"] += row["ptes_made_writable"]
            counted["ptes_inspected"] += row["ptes_inspected"]
            timed = {name: cost["count"] for name, cost in row["fault_ns"].items()}
            counted.update({f"fault_duration_seconds {name}": n for name, n in timed.items()})
    return counted


def counted_by_serve(machine: Machine, kind: str) -> Counter[str]:
    """The same of its metrics."""
    counted: Counter[str] = Counter()
    for family in text_string_to_metric_families(machine.get("/metrics")):
        for sample in family.samples:
            labels = sample.labels
            if (labels.get("comm"), labels.get("kind")) == ("toggle", kind):
                name = re.sub("^pte_trace_|_total$|_count$", "", sample.name)
                by = labels.get("outcome") or labels.get("cause") or labels.get("reason") or ""
                counted[f"{name} {by}".strip()] += int(sample.value)
    return counted


@pytest.mark.parametrize("kind", ["anon", "shmem"])
def test_the_counts_are_those_of_run(fleet: Fleet, kind: str) -> None:
    """The workload ran once under `run`, and three times under `serve`."""
    for machine in fleet.machines:
        once, thrice = counted_by_run(machine, kind), counted_by_serve(machine, kind)
        if kind == "anon":
            # Its buffer for /proc/vmstat: a page more is touched as those numbers grow.
            for name in ("write_faults other", "fault_duration_seconds other"):
                assert abs(thrice.pop(name) - 3 * once.pop(name)) <= 3
        assert {name: 3 * number for name, number in once.items()} == {
            name: thrice[name] for name in once
        }
        assert once["ptes_changed mprotect"] >= 2 * PAGES


def test_prometheus_has_what_the_exporter_shows(fleet: Fleet) -> None:
    for machine in fleet.machines:
        (found,) = fleet.prometheus.query(
            f'sum(pte_trace_write_faults_total{{instance="{machine.instance}",comm="toggle"}})'
        )
        shown = sum(number for (comm, *_), number in samples(machine).items() if comm == "toggle")
        assert float(found["value"][1]) == shown


def test_the_optimization_is_seen(fleet: Fleet) -> None:
    kernels = {
        each["metric"]["instance"]: each["metric"]["optimization"]
        for each in fleet.prometheus.query("pte_trace_kernel_info")
    }
    old, new = fleet.machines
    assert kernels == {old.instance: "false", new.instance: "true"}


def test_the_page_shows_what_the_metrics_do(fleet: Fleet) -> None:
    """The counts rise while they are looked at: the page's lie between two scrapes."""
    for machine in fleet.machines:
        before = sum(samples(machine).values())
        page = machine.get("/")
        after = sum(samples(machine).values())
        shown = re.search(r'<b id="faults">([\d,]+)</b>', page)
        assert shown
        assert before <= int(shown[1].replace(",", "")) <= after


def test_no_counter_falls(fleet: Fleet) -> None:
    machine = fleet.machines[0]
    before = samples(machine)
    time.sleep(1)
    after = samples(machine)
    assert all(after[series] >= number for series, number in before.items())
