"""The files that users take: what promtool says, and that they fit what there is."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.fleet import ROOT

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["prometheus.yml", "federation.yml", "remote-write.yml"])
def test_configurations_are_valid(name: str) -> None:
    done = promtool("check", "config", name)
    assert done.returncode == 0, done.stderr


def test_rules_are_valid_and_do_what_they_say() -> None:
    for arguments in (
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "rules.test.yml"),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_test() -> None:
    alerts = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]
    tested = {
        each["alertname"]
        for test in tests
        for each in test.get("alert_rule_test", ())
        if each["exp_alerts"]
    }
    assert {rule["alert"] for rule in alerts} == tested


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.y*ml")), ids=lambda path: path.name)
def test_yaml_is_yaml(path: Path) -> None:
    assert all(yaml.safe_load_all(path.read_text()))


def test_the_unit_starts_serve_and_waits_for_it() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(DEPLOY / "systemd" / "pte-trace.service")
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["ExecStart"].endswith("pte-trace serve")


def test_the_unit_is_as_exposed_as_we_say() -> None:
    figure = re.search(r"an exposure of ([\d.]+) ", (DEPLOY / "README.md").read_text())
    assert figure
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=yes"),
            f"--threshold={round(10 * float(figure[1]))}",
            str(DEPLOY / "systemd" / "pte-trace.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"for pte-trace.service: {figure[1]} " in done.stdout


def test_the_daemonset_asks_the_pages_there_are() -> None:
    *_, daemonset = yaml.safe_load_all((DEPLOY / "kubernetes" / "daemonset.yaml").read_text())
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["pte-trace", "serve"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
