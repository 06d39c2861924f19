"""The Helm chart: what Helm makes of it, and what Kubernetes, its Prometheus Operator and promtool
say to that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from pte_trace import __version__
from pte_trace.commands.serve import serve
from tests.e2e.chart import CHART, DEPLOY, MANIFEST, manifest, rendered

ROOT = DEPLOY.parent
PROMETHEUS = DEPLOY / "prometheus"
WARNING = 2
# All that there is to be had, each thing set to something of its own.
ALL: dict[str, Any] = {
    "image": {"repository": "registry.example/mine", "tag": "1", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "arguments": ["--by-cgroup", "--max-vmas=100000"],
    "webSecret": "web",
    "resources": {"limits": {"memory": "768Mi"}},
    "seccompProfile": {"type": "Localhost", "localhostProfile": "bpf.json"},
    "nodeSelector": {"traced": "true"},
    "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-node-critical",
    "podAnnotations": {"a": "1"},
    "namespace": {"create": True},
    "service": {"enabled": True},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "podMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "interval": "15s",
        "secret": "scrape",
        "serverName": "name",
    },
    "prometheusRule": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "runbookUrl": "https://wiki.example/runbook",
    },
    "dashboards": {
        "enabled": True,
        "labels": {"grafana_dashboard": "1"},
        "annotations": {"grafana_folder": "pte-trace"},
    },
}
SWITCHES = {
    "namespace": "create",
    "networkPolicy": "enabled",
    "service": "enabled",
    "podMonitor": "enabled",
    "prometheusRule": "enabled",
    "dashboards": "enabled",
}


def objects(values: dict[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    texts = rendered(values, chart)
    del texts["NOTES"]
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


def the(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    (found,) = (each for each in objects(values) if each["kind"] == kind)
    return found


def loaded(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((CHART / name).read_text())
    return content


def test_the_daemonset_without_helm_is_the_chart_s() -> None:
    """`make manifests` writes it anew."""
    assert MANIFEST.read_text() == manifest()


def test_helm_finds_nothing_to_warn_of() -> None:
    said = helm_python.lint(CHART, ALL, strict=True, namespace="pte-trace")
    assert said["total_charts_linted"] == 1
    assert [each for each in said["messages"] if each["severity"] >= WARNING] == []
    assert not said["errors"]


def test_the_chart_is_of_this_version() -> None:
    about = loaded("Chart.yaml")
    assert (about["version"], about["appVersion"]) == (__version__, __version__)
    (container,) = the("DaemonSet", {})["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"registry.example/pte-trace:{__version__}"


@pytest.mark.parametrize("version", ["1.25", "1.29", "1.33", "1.37"])
@pytest.mark.parametrize("values", [{}, ALL], ids=["as it is", "all"])
def test_kubernetes_knows_every_field(values: dict[str, Any], version: str) -> None:
    operators = 0
    for each in objects(values):
        if each["apiVersion"].startswith("monitoring.coreos.com/"):
            operators += 1
        else:
            kubernetes_validate.validate(each, version, strict=True)
    assert operators == (2 if values else 0)


# Reads an object as the operator's types have it, and writes it; what they do not know is lost.
_READ_AND_WRITTEN = """
import json, sys
from cloudcoil.models.prometheus_operator import v1
made = json.load(sys.stdin)
known = getattr(v1, made["kind"]).model_validate(made)
print(known.model_dump_json(by_alias=True, exclude_unset=True))
"""


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_operator_knows_every_field(kind: str) -> None:
    made = the(kind, ALL)
    done = subprocess.run(
        [sys.executable, "-c", _READ_AND_WRITTEN],
        input=json.dumps(made),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".venv" / "operator")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == made


def test_every_part_can_be_left_out() -> None:
    whole = {(each["kind"], each["metadata"]["name"]) for each in objects(ALL)}
    assert len(whole) == 8
    for part, switch in SWITCHES.items():
        rest = objects({**ALL, part: {**ALL[part], switch: False}})
        gone = whole - {(each["kind"], each["metadata"]["name"]) for each in rest}
        assert {kind for kind, _ in gone} == {
            "ConfigMap" if part == "dashboards" else part[0].upper() + part[1:]
        }


def test_every_setting_is_in_the_schema_and_tried_here() -> None:
    def keys(values: Any, within: str = "") -> set[str]:
        if not isinstance(values, dict):
            return set()
        return {f"{within}{key}" for key in values} | {
            each for key, value in values.items() for each in keys(value, f"{within}{key}.")
        }

    def declared(schema: dict[str, Any], within: str = "") -> set[str]:
        properties = schema.get("properties", {})
        return {f"{within}{key}" for key in properties} | {
            each for key, value in properties.items() for each in declared(value, f"{within}{key}.")
        }

    settings = loaded("values.yaml")
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(settings) == set(ALL)
    known = declared(schema) - {"global"}
    free = ("resources.", "seccompProfile.", "dashboards.labels.")
    assert {each for each in keys(settings) if not each.startswith(free)} == known
    assert known <= keys(ALL)


@pytest.mark.parametrize(
    "values",
    [
        {"podMonitr": {}},
        {"service": {"enable": True}},
        {"prometheusRule": {"enabled": "yes"}},
        {"podMonitor": {"interval": "often"}},
        {"networkPolicy": {"from": []}},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmValuesError):
        rendered(values)


def test_what_is_set_arrives() -> None:
    pod = the("DaemonSet", ALL)["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    context = serve.make_context("serve", list(container["args"][2:]))
    assert context.params["by_cgroup"] is True
    assert container["image"] == "registry.example/mine:1"
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"]["limits"] == ALL["resources"]["limits"]
    assert container["securityContext"]["seccompProfile"] == ALL["seccompProfile"]
    (web,) = (each for each in pod["spec"]["volumes"] if each["name"] == "web")
    assert web["secret"]["secretName"] == "web"
    assert pod["spec"]["nodeSelector"]["traced"] == "true"
    assert pod["metadata"]["annotations"] == ALL["podAnnotations"]
    for each in ("tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod["spec"][each] == ALL[each]
    (rule,) = the("NetworkPolicy", ALL)["spec"]["ingress"]
    assert rule["from"] == ALL["networkPolicy"]["from"]


def test_rules_and_dashboards_are_no_copies() -> None:
    links = {path.name: path for path in (CHART / "files").iterdir()}
    originals = [PROMETHEUS / "alerts.yml", PROMETHEUS / "recording.yml"]
    originals += sorted((ROOT / "dashboards").glob("*.json"))
    assert set(links) == {path.name for path in originals}
    for path in originals:
        assert links[path.name].is_symlink()
        assert links[path.name].resolve() == path


def kept() -> list[dict[str, Any]]:
    return [
        group
        for name in ("recording", "alerts")
        for group in yaml.safe_load((PROMETHEUS / f"{name}.yml").read_text())["groups"]
    ]


def test_the_operator_s_rules_are_those_that_are_kept() -> None:
    groups = the("PrometheusRule", {"prometheusRule": {"enabled": True}})["spec"]["groups"]
    assert groups == kept()


def test_the_runbook_is_where_one_says(tmp_path: Path) -> None:
    groups = the("PrometheusRule", ALL)["spec"]["groups"]
    base = ALL["prometheusRule"]["runbookUrl"]
    wanted = kept()
    for group in wanted:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["annotations"]["runbook_url"] = f"{base}#{rule['alert'].lower()}"
    assert groups == wanted
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": groups}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_dashboard_is_as_it_is_kept() -> None:
    maps = [each for each in objects(ALL) if each["kind"] == "ConfigMap"]
    files = {name: text for each in maps for name, text in each["data"].items()}
    kept = {path.name: path.read_text() for path in (ROOT / "dashboards").glob("*.json")}
    assert files == kept
    for each in maps:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["annotations"] == {"grafana_folder": "pte-trace"}


def operators_scrape(monitor: dict[str, Any], pod: dict[str, str]) -> dict[str, Any]:
    """The scrape config that the Prometheus Operator makes of it, but for how it finds *pod*: its
    generatePodMonitorConfig()."""
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    def labelled(name: str) -> str:
        return "__meta_kubernetes_pod_label_" + name.translate(str.maketrans("./-", "___"))

    relabeling: list[dict[str, Any]] = [
        {"action": "keep", "source_labels": [labelled(name)], "regex": value}
        for name, value in monitor["spec"]["selector"]["matchLabels"].items()
    ]
    port = "__meta_kubernetes_pod_container_port_name"
    relabeling.append({"action": "keep", "source_labels": [port], "regex": endpoint["port"]})
    for label, source in (
        ("namespace", "__meta_kubernetes_namespace"),
        ("container", "__meta_kubernetes_pod_container_name"),
        ("pod", "__meta_kubernetes_pod_name"),
        ("job", labelled(monitor["spec"]["jobLabel"])),
    ):
        relabeling.append({"source_labels": [source], "target_label": label, "regex": "(.+)"})
    relabeling.append({"target_label": "endpoint", "replacement": endpoint["port"]})
    names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    relabeling += [
        {names.get(key, key): value for key, value in each.items()}
        for each in endpoint["relabelings"]
    ]
    return {
        "job_name": "podMonitor",
        "static_configs": [{"targets": ["10.0.0.1:9818"], "labels": pod}],
        "relabel_configs": relabeling,
    }


def test_the_operator_s_prometheus_calls_machines_as_the_rules_do(tmp_path: Path) -> None:
    daemonset = the("DaemonSet", ALL)["spec"]["template"]
    (container,) = daemonset["spec"]["containers"]
    pod = {
        "__meta_kubernetes_namespace": "pte-trace",
        "__meta_kubernetes_pod_name": "pte-trace-x7z4p",
        "__meta_kubernetes_pod_node_name": "node-a",
        "__meta_kubernetes_pod_container_name": container["name"],
        "__meta_kubernetes_pod_container_port_name": container["ports"][0]["name"],
    }
    for name, value in daemonset["metadata"]["labels"].items():
        pod["__meta_kubernetes_pod_label_" + name.translate(str.maketrans("./-", "___"))] = value
    path = tmp_path / "prometheus.yml"
    scrape = operators_scrape(the("PodMonitor", ALL), pod)
    path.write_text(yaml.safe_dump({"scrape_configs": [scrape]}))
    done = subprocess.run(
        ["promtool", "check", "service-discovery", "--timeout=1s", str(path), scrape["job_name"]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout)
    assert {
        name: value for name, value in target["labels"].items() if not name.startswith("__")
    } == {"job": "pte-trace", "instance": "node-a", "namespace": "pte-trace", "endpoint": "metrics"}


def test_prometheus_knows_what_the_pods_ask_for() -> None:
    """As prometheus/kubernetes.yml has it, without the operator."""
    (job,) = yaml.safe_load((PROMETHEUS / "kubernetes.yml").read_text())["scrape_configs"]
    monitor = the("PodMonitor", {"podMonitor": {"enabled": True}})
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == job["scheme"]
    assert endpoint["tlsConfig"]["serverName"] == job["tls_config"]["server_name"]
    readme = (DEPLOY / "README.md").read_text().replace("\\\n", "")
    for part in (endpoint["tlsConfig"]["ca"]["secret"], *endpoint["basicAuth"].values()):
        (created,) = (
            line for line in readme.splitlines() if f"create secret generic {part['name']} " in line
        )
        assert part["key"] in created


def test_an_archive_holds_what_the_directory_links_to(tmp_path: Path) -> None:
    with helm_python.Chart.load(CHART) as chart:
        archive = Path(chart.save(tmp_path))
    assert archive.name == f"pte-trace-{__version__}.tgz"
    assert objects(ALL, archive) == objects(ALL)
