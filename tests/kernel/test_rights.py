"""Without root: the doctor's capabilities are enough, and `serve` keeps none that it can miss."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pte_trace.exporter.reader import FRESH_S
from pte_trace.kernel.rights import NOBODY
from tests import hostile
from tests.kernel.conftest import GUEST, LITTLE, WORKLOADS

PAGES = 23
CAP_BPF, CAP_SYS_NICE = 1 << 39, 1 << 23
# The kernels before Linux 5.19.
ASK_WHEN_READ = ("bullseye",)


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory of the user nobody."""
    with tempfile.TemporaryDirectory() as directory:
        os.chown(directory, NOBODY, NOBODY)
        yield Path(directory)


def as_nobody(capabilities: list[str]) -> list[str]:
    """What to put before a command so that it has these rights alone."""
    names = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)])
    sets = (f"--{each}={names}" for each in ("inh-caps", "ambient-caps", "bounding-set"))
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *sets]


def counted(metrics: str, name: str, **labels: str) -> float:
    """The sum of all series of *name* that have *labels*."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def get(path: Path, page: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"GET {page} HTTP/1.0\r\n\r\n".encode())
        with client.makefile("r", newline="\r\n") as answer:
            return answer.read().partition("\r\n\r\n")[2]


@pytest.mark.parametrize(
    "effort",
    [
        pytest.param([], id="everything", marks=pytest.mark.once),
        pytest.param([*LITTLE], id="faults alone"),
    ],
)
def test_serve_needs_no_root(
    doctor: Mapping[str, Any], nobodys: Path, optimized: bool, effort: list[str]
) -> None:
    needed = doctor["capabilities"]
    path = nobodys / "socket"
    serve = subprocess.Popen(
        [
            *(*as_nobody(list(needed)), sys.executable, "-m", "pte_trace"),
            *("serve", "--listen", f"unix:{path}", *effort),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert serve.stderr is not None
        assert serve.stderr.readline() == f"pte-trace: Listening on unix:{path}\n"
        subprocess.run([WORKLOADS / "toggle", str(PAGES)], check=True)
        # What a scrape gets may be so old.
        time.sleep(FRESH_S)
        metrics = get(path, "/metrics")
        status = Path(f"/proc/{serve.pid}/status").read_text()
        serve.terminate()
        _, said = serve.communicate(timeout=60)
    finally:
        serve.kill()

    reused = counted(metrics, "pte_trace_write_faults_total", comm="toggle", outcome="wp_reuse")
    made = counted(metrics, "pte_trace_ptes_made_writable_total", comm="toggle")
    assert (reused >= PAGES, made >= PAGES) == (not optimized, optimized and not effort)
    kept = CAP_BPF if GUEST in ASK_WHEN_READ else 0
    kept |= CAP_SYS_NICE if "CAP_SYS_NICE" in needed else 0
    assert f"CapPrm:\t{kept:016x}\nCapEff:\t{kept:016x}\n" in status
    assert "NoNewPrivs:\t1\n" in status
    assert (serve.returncode, said) == (0, "")
    assert not path.exists()


@pytest.mark.once
def test_what_the_environment_names_is_not_read(tmp_path: Path) -> None:
    environment = hostile.fill(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [Path(sys.executable).with_name("pte-trace"), "run", "--", "/bin/true"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, hostile.used(tmp_path)) == (0, ""), done.stderr
    assert sorted(tmp_path.iterdir()) == before
