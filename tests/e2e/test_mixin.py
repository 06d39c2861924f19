"""The monitoring mixin, as jsonnet reads it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import _jsonnet
import yaml

from tests.e2e.chart import DEPLOY

PROMETHEUS = DEPLOY / "prometheus"
MIXIN = DEPLOY / "mixin"
DASHBOARDS = DEPLOY.parent / "dashboards"


def read(expression: str) -> Any:
    """What *expression* comes to in deploy/mixin."""
    return json.loads(_jsonnet.evaluate_snippet(str(MIXIN / "-"), expression))


def made(expression: str) -> Any:
    return read(f"local mixin = import 'mixin.libsonnet'; {expression}")


def kept(name: str) -> Any:
    return yaml.safe_load((PROMETHEUS / name).read_text())


def test_rules_are_those_that_are_kept() -> None:
    assert made("mixin.prometheusAlerts") == kept("alerts.yml")
    assert made("mixin.prometheusRules") == kept("recording.yml")


def test_dashboards_are_those_that_are_kept() -> None:
    files = {path.name: json.loads(path.read_text()) for path in DASHBOARDS.glob("*.json")}
    assert made("mixin.grafanaDashboards") == files


def test_the_runbook_is_where_one_says() -> None:
    wanted = kept("alerts.yml")
    for rule in wanted["groups"][0]["rules"]:
        rule["annotations"]["runbook_url"] = f"https://wiki.example/r#{rule['alert'].lower()}"
    setting = "{ _config+:: { runbookUrl: 'https://wiki.example/r' } }"
    assert made(f"(mixin + {setting}).prometheusAlerts") == wanted


def test_it_goes_with_other_mixins() -> None:
    other = """{
        prometheusAlerts+:: { groups+: [{ name: 'other', rules: [] }] },
        grafanaDashboards+:: { 'other.json': {} },
    }"""
    for both in (f"(mixin + {other})", f"({other} + mixin)"):
        names = {group["name"] for group in made(f"{both}.prometheusAlerts.groups")}
        assert names == {"other", "pte-trace-alerts"}
        assert "other.json" in made(f"std.objectFields({both}.grafanaDashboards)")


def test_what_the_readme_types_does_what_it_says(tmp_path: Path) -> None:
    """But for jsonnet's options: -S writes a text, -m a file for each field."""
    readme = (DEPLOY / "README.md").read_text()
    commands = re.findall(r"^    jsonnet (.*-e '(.+)' .*)$", readme, re.MULTILINE)
    made = {command.split("build")[1]: read(expression) for command, expression in commands}
    assert set(made) == {"/alerts.yml", "/recording.yml", ""}
    assert set(made[""]) == {path.name for path in DASHBOARDS.glob("*.json")}
    for name in ("alerts.yml", "recording.yml"):
        path = tmp_path / name
        path.write_text(made[f"/{name}"])
        assert yaml.safe_load(path.read_text()) == kept(name)
        done = subprocess.run(
            ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
