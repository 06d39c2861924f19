"""The files that users take: what promtool says, and that they fit what there is."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pte_trace.commands.serve import serve
from pte_trace.errors import HostError, UsageError
from pte_trace.host.plan import capabilities, make
from tests.builders import host, host_whose
from tests.e2e.fleet import ROOT

DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
README = (DEPLOY / "README.md").read_text()


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["prometheus.yml", "federation.yml", "remote-write.yml"])
def test_configurations_are_valid(name: str) -> None:
    done = promtool("check", "config", name)
    assert done.returncode == 0, done.stderr


def test_the_configuration_for_a_cluster_is_valid(tmp_path: Path) -> None:
    """But for how pods are found: Debian's Prometheus is built without that."""
    config = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": ["pod:9818"]}]
    del job["kubernetes_sd_configs"]
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    path = tmp_path / "kubernetes.yml"
    path.write_text(yaml.safe_dump(config))
    done = promtool("check", "config", str(path))
    assert done.returncode == 0, done.stderr


def test_rules_are_valid_and_do_what_they_say() -> None:
    for arguments in (
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "rules.test.yml"),
        ("check", "rules", "pods.yml"),
        ("test", "rules", "pods.test.yml"),
    ):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


# Two servers below, each with a machine on Linux 6.1; one was booted into it two minutes ago.
FEDERATED = {
    'pte_trace_kernel_info{JOB,instance="a",release="5.10",optimization="false"}': "1x8",
    'pte_trace_kernel_info{JOB,instance="a",release="6.1",optimization="true"}': "_x8 1x8",
    'pte_trace_kernel_info{OTHER,instance="b",release="6.1",optimization="true"}': "1x16",
    'release:pte_trace_machines:count{A,release="6.1",optimization="true"}': "1x16",
    'release:pte_trace_machines:count{B,release="6.1",optimization="true"}': "1x16",
    'release:pte_trace_entries_made_writable:rate5m{A,release="6.1"}': "1x16",
    'release:pte_trace_entries_made_writable:rate5m{B,release="6.1"}': "2x16",
    'release:pte_trace_avoidable_faults:rate5m{A,release="6.1"}': "1x16",
    'release:pte_trace_avoidable_faults:rate5m{B,release="6.1"}': "0x16",
    'release:pte_trace_saved_seconds:rate5m{A,release="6.1"}': "0.5x16",
    'release:pte_trace_saved_seconds:rate5m{B,release="6.1"}': "1x16",
    'instance:pte_trace_efficacy:ratio_rate5m{JOB,instance="a"}': "0.5x16",
    'instance:pte_trace_saved_seconds:rate5m{JOB,instance="a"}': "0.5x16",
    'instance:pte_trace_avoidable_faults:rate5m{JOB,instance="a"}': "1x16",
    'instance:pte_trace_inspected:ratio_rate5m{JOB,instance="a"}': "0.5x16",
    'instance:pte_trace_inspected:ratio_rate5m{OTHER,instance="b"}': "1x16",
}
_LABELS = {"JOB": 'A,job="pte-trace"', "OTHER": 'B,job="pte-trace"'}
_MACHINE = '{job="pte-trace",instance="a",release="6.1",optimization="true"}'
SHOWN: dict[str, dict[str, float]] = {
    "Machines": {"{}": 2},
    "Saved at most": {"{}": 1.5},
    "Avoidable faults": {"{}": 1},
    "Efficacy": {"{}": 0.75},
    "Efficacy understated": {"{}": 1},
    "Efficacy by kernel release": {'{release="6.1"}': 0.75},
    "CPU time saved by kernel release": {'{release="6.1"}': 1.5},
    "Machines by kernel release": {'{release="6.1",optimization="true"}': 2},
    "Saved most": {_MACHINE: 0.5},
    "Most avoidable faults": {_MACHINE: 1},
}


def labelled(series: str) -> str:
    for name, labels in {**_LABELS, "A": 'prometheus="a"', "B": 'prometheus="b"'}.items():
        series = re.sub(rf"\b{name}\b", labels, series)
    return series


def test_the_fleet_is_right_above_two_servers_as_a_kernel_is_changed(tmp_path: Path) -> None:
    """Federation knows no stale markers: for minutes one machine has two kernels."""
    dashboard = json.loads((ROOT / "dashboards" / "pte-trace-fleet.json").read_text())
    asked = {
        panel["title"]: re.sub(r"\$\w+", ".*", panel["targets"][0]["expr"])
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }
    test = {
        "interval": "1m",
        "input_series": [
            {"series": labelled(series), "values": values} for series, values in FEDERATED.items()
        ],
        "promql_expr_test": [
            {
                "expr": asked[title],
                "eval_time": "10m",
                "exp_samples": [
                    {"labels": labels, "value": value} for labels, value in samples.items()
                ],
            }
            for title, samples in SHOWN.items()
        ],
    }
    path = tmp_path / "fleet.test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_servers_that_are_federated_have_names() -> None:
    for name in ("prometheus.yml", "kubernetes.yml", "remote-write.yml"):
        config = yaml.safe_load((PROMETHEUS / name).read_text())
        assert config["global"]["external_labels"] == {"prometheus": "a"}


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


# The chart's templates are none until Helm has rendered them.
YAML = [path for path in DEPLOY.rglob("*.y*ml") if path.parent.name != "templates"]


@pytest.mark.parametrize("path", sorted(YAML), ids=lambda path: path.name)
def test_yaml_is_yaml(path: Path) -> None:
    assert all(yaml.safe_load_all(path.read_text()))


def test_the_unit_starts_serve_and_waits_for_it() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(DEPLOY / "systemd" / "pte-trace.service")
    assert unit["Service"]["Type"] == "notify"
    assert unit["Service"]["ExecStart"].endswith("pte-trace serve")
    status = unit["Service"]["RestartPreventExitStatus"].split()
    assert set(map(int, status)) == {UsageError.exit_status, HostError.exit_status}


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


def kubernetes(kind: str) -> dict[str, Any]:
    """The object of that kind; the one that there is."""
    (found,) = (
        each
        for each in yaml.safe_load_all((DEPLOY / "kubernetes" / "daemonset.yaml").read_text())
        if each["kind"] == kind
    )
    return dict(found)


def test_the_daemonset_serves_with_tls_and_passwords() -> None:
    pod = kubernetes("DaemonSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    context = serve.make_context("serve", list(container["args"][2:]))
    assert container["args"][:2] == ["pte-trace", "serve"]
    (mounted,) = (each for each in container["volumeMounts"] if each["name"] == "web")
    assert context.params["web_config"].parent == Path(mounted["mountPath"])
    (volume,) = (each for each in pod["volumes"] if each["name"] == "web")
    assert f"create secret generic {volume['secret']['secretName']} " in README
    # It becomes nobody, who reads it again.
    assert volume["secret"]["defaultMode"] == 0o444
    # Neither has a password to give.
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["tcpSocket"] == {"port": "metrics"}


def test_prometheus_knows_how_the_pods_serve() -> None:
    config = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["scheme"] == "https"
    assert f"DNS:{job['tls_config']['server_name']}" in README
    assert f"{job['basic_auth']['username']}:" in README


def test_nobody_but_prometheus_comes_to_the_pods() -> None:
    policy = kubernetes("NetworkPolicy")
    daemonset = kubernetes("DaemonSet")
    assert policy["metadata"]["namespace"] == daemonset["metadata"]["namespace"]
    assert policy["spec"]["podSelector"] == daemonset["spec"]["selector"]
    assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["spec"]["egress"] == []
    (rule,) = policy["spec"]["ingress"]
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert [each["port"] for each in rule["ports"]] == [container["ports"][0]["name"]]
    # Both in one: of that namespace, those pods.
    (peer,) = rule["from"]
    assert set(peer) == {"namespaceSelector", "podSelector"}


def test_the_daemonset_can_gain_no_rights() -> None:
    (container,) = kubernetes("DaemonSet")["spec"]["template"]["spec"]["containers"]
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security["readOnlyRootFilesystem"] is True
    # The one that the API server refuses beside allowPrivilegeEscalation: false.
    assert "SYS_ADMIN" not in security["capabilities"]["add"]
    assert security["capabilities"]["drop"] == ["ALL"]


def test_the_daemonset_has_the_rights_and_the_room_it_takes() -> None:
    daemonset = kubernetes("DaemonSet")
    pod = daemonset["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    attachments = make(host_whose("do_wp_page", fentry=False)).attachments
    needed = capabilities(host(preemptible=True, tables_are_locked_memory=True), attachments)
    given = container["securityContext"]["capabilities"]["add"]
    assert set(needed) <= {f"CAP_{name}" for name in given}
    writable = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert writable["cache"] == "/root/.cache"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert "emptyDir" in volumes["cache"]


def test_the_image_is_made_of_what_the_package_is_made_of() -> None:
    copied = {
        source
        for line in (DEPLOY / "Containerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    }
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = [*wheel["packages"], *wheel["force-include"]]
    packed += [*wheel["shared-scripts"], *wheel["shared-data"]]
    packed += [project["project"]["readme"], *project["project"]["license-files"]]
    assert {path.split("/")[0] for path in packed} | {"pyproject.toml"} == copied


def test_prometheus_finds_the_pods_of_the_daemonset() -> None:
    daemonset = kubernetes("DaemonSet")
    config = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())
    (job,) = config["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    label, port, _ = job["relabel_configs"]
    (container,) = daemonset["spec"]["template"]["spec"]["containers"]
    assert discovery["namespaces"]["names"] == [daemonset["metadata"]["namespace"]]
    assert (
        label["regex"]
        == daemonset["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]
    )
    assert port["regex"] == container["ports"][0]["name"]


def test_a_collector_scrapes_as_prometheus_does(tmp_path: Path) -> None:
    """And promtool takes the scrape config, where a collector's two dollars are one."""
    collector = yaml.safe_load((DEPLOY / "otel" / "collector.yml").read_text())
    scraped = collector["receivers"]["prometheus"]["config"]
    prometheus = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    interval = prometheus["global"]["scrape_interval"]
    assert scraped["scrape_configs"] == [
        {**job, "scrape_interval": interval} for job in prometheus["scrape_configs"]
    ]
    text = yaml.safe_dump(scraped)
    assert "$" not in text.replace("$$", "")
    path = tmp_path / "scraped.yml"
    path.write_text(text.replace("$$", "$"))
    done = promtool("check", "config", str(path))
    assert done.returncode == 0, done.stderr


def test_a_collector_s_pipeline_is_made_of_what_there_is() -> None:
    collector = yaml.safe_load((DEPLOY / "otel" / "collector.yml").read_text())
    kinds = ("receivers", "processors", "exporters")
    assert set(collector) == {*kinds, "service"}
    (pipeline,) = collector["service"]["pipelines"].values()
    for kind in kinds:
        assert set(pipeline[kind]) == set(collector[kind])
    assert pipeline["processors"][0] == "memory_limiter"
