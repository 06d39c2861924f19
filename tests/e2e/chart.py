"""The chart as Helm renders it; and deploy/kubernetes/daemonset.yaml, which is that.

python -m tests.e2e.chart
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "pte-trace"
MANIFEST = DEPLOY / "kubernetes" / "daemonset.yaml"
_HEAD = """\
# pte-trace on each node, for those who do without Helm: `make manifests` writes it from the chart
# in ../helm/pte-trace and values.yaml. Build the image with ../Containerfile, and put the name
# below under which your nodes find it. ../prometheus/kubernetes.yml finds the pods by their label
# and the port's name. It does not start without the Secret pte-trace-web: TLS and passwords, see
# ../README.md.
"""
# As Helm orders them.
_ORDER = ("namespace", "networkpolicy", "service", "daemonset")


def rendered(values: dict[str, Any], chart: Path = CHART) -> dict[str, str]:
    """Each template, by its name without .yaml, that came to something."""
    with helm_python.Chart.load(chart) as loaded:
        texts = loaded.render(values, name="pte-trace", namespace="pte-trace")
    return {Path(path).stem: f"{text.strip()}\n" for path, text in texts.items() if text.strip()}


def manifest() -> str:
    """What belongs into MANIFEST."""
    texts = rendered(yaml.safe_load(MANIFEST.with_name("values.yaml").read_text()))
    del texts["NOTES"]
    assert set(texts) == set(_ORDER)
    return _HEAD + "---\n".join(texts[name] for name in _ORDER)


if __name__ == "__main__":
    MANIFEST.write_text(manifest())
