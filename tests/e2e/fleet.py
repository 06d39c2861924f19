"""Two guests that serve, and a Prometheus that scrapes them: for the tests and for a demo."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
_RULES = ROOT / "deploy" / "prometheus"
_LATEST_START_S = 1000
_GUEST_LIFE_S = 3600
# Emulated guests are slow, and there are two.
_SCRAPE_S = 10


class FleetError(Exception):
    """A part of the fleet ended, with what it said last."""


@dataclass(frozen=True)
class Machine:
    """A guest: its kernel's name in the lab, where its exporter is, and what it shares."""

    kernel: str
    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def instance(self) -> str:
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> str:
        """A page of its exporter. Raises OSError, and FleetError where it died."""
        self._check()
        return fetch(f"http://{self.instance}{path}")

    def counted(self) -> bool:
        """Whether it answers, and the workload has run. Raises FleetError where it died."""
        self._check()
        return (self.directory / "counted").exists()

    def _check(self) -> None:
        if self.process.poll() is not None:
            said = "\n".join(
                log.read_text(errors="replace")[-2000:]
                for log in sorted(self.directory.glob("*.log"))
            )
            raise FleetError(f"The guest {self.kernel} ended: {said}")


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus, asked through its HTTP API."""

    url: str

    def ready(self) -> bool:
        try:
            fetch(f"{self.url}/-/ready")
        except OSError:
            return False
        return True

    def ask(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer of the HTTP API."""
        text = fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        data = self.ask("query", query=expr)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def up(self, machines: Sequence[Machine]) -> bool:
        """Whether each machine was scraped three times, so that there are rates of rates."""
        counts = self.query('sum_over_time(up{job="pte-trace"}[10m]) >= 3')
        return len(counts) == len(machines)


@dataclass(frozen=True)
class Fleet:
    machines: tuple[Machine, ...]
    prometheus: Prometheus


def fetch(url: str) -> str:
    """The page at *url*. Raises OSError, with the page of an error as its reason."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            text: str = answer.read().decode()
    except urllib.error.HTTPError as error:
        raise OSError(f"{url}: {error.read().decode()}") from error
    return text


def free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(kernels: Sequence[str]) -> Iterator[Fleet]:
    """A fleet of *kernels* that was scraped, all of it ended on leaving."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pte-trace-")))
        *ports, own = free_ports(len(kernels) + 1)
        machines = tuple(
            _boot(kernel, port, directory / f"{number}-{kernel}", stack)
            for number, (kernel, port) in enumerate(zip(kernels, ports, strict=True))
        )
        prometheus = _prometheus(machines, own, directory / "prometheus", stack)
        _wait(prometheus.ready)
        for machine in machines:
            _wait(machine.counted)
        _wait(lambda: prometheus.up(machines))
        yield Fleet(machines, prometheus)


def _boot(kernel: str, port: int, directory: Path, stack: ExitStack) -> Machine:
    directory.mkdir()
    log = stack.enter_context((directory / "guest.log").open("wb"))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pte_trace", "lab", "run", "--kernel", kernel),
            *("--cpus", "1", "--memory", "2G", "--timeout", str(_GUEST_LIFE_S)),
            *("--forward", f"{port}:9818", "--rwdir", str(directory), "--"),
            *("sh", str(ROOT / "tests" / "e2e" / "guest.sh")),
            *(str(directory), str(ROOT / "build" / "workloads")),
        ],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    stack.callback(_end, process)
    return Machine(kernel, port, directory, process)


def _prometheus(
    machines: Sequence[Machine], port: int, directory: Path, stack: ExitStack
) -> Prometheus:
    """With the project's own configuration, but for the targets and how often they are asked."""
    directory.mkdir()
    config = yaml.safe_load((_RULES / "prometheus.yml").read_text())
    config["global"] = {
        "scrape_interval": f"{_SCRAPE_S}s",
        "scrape_timeout": f"{_SCRAPE_S}s",
        "evaluation_interval": f"{_SCRAPE_S}s",
    }
    config["rule_files"] = [str(_RULES / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [machine.instance for machine in machines]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    return _started(port, directory, stack)


@contextmanager
def alone(directory: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes nobody, with what is in *directory*/data."""
    (port,) = free_ports(1)
    (directory / "prometheus.yml").write_text("{}")
    with ExitStack() as stack:
        prometheus = _started(port, directory, stack)
        _wait(prometheus.ready)
        yield prometheus


def _started(port: int, directory: Path, stack: ExitStack) -> Prometheus:
    """With prometheus.yml and data in *directory*; what is old is kept."""
    log = stack.enter_context((directory / "log").open("wb"))
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "GOMAXPROCS": "1"},
    )
    stack.callback(_end, process)
    return Prometheus(f"http://127.0.0.1:{port}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(for_: Any) -> None:
    deadline = time.monotonic() + _LATEST_START_S
    while not for_():
        if time.monotonic() > deadline:
            raise FleetError(f"The fleet did not start within {_LATEST_START_S} s.")
        time.sleep(0.5)


def main() -> None:
    """Run a fleet until Ctrl-C, and say where to look."""
    kernels = sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"Booting {' and '.join(kernels)}; they serve in a few minutes.", flush=True)
    try:
        _show(kernels)
    except KeyboardInterrupt:
        print("\nAll of it has ended.")
    except FleetError as error:
        sys.exit(f"{error}\nAll of it has ended.")


def _show(kernels: Sequence[str]) -> None:
    """Until Ctrl-C, or until a guest ends."""
    with running(kernels) as fleet:
        for machine in fleet.machines:
            print(f"  {machine.kernel:12} http://{machine.instance}/")
        print(f"  {'Prometheus':12} {fleet.prometheus.url}/")
        print("  Try there: release:pte_trace_write_faults:rate5m")
        print("Grafana: add that Prometheus, then import dashboards/*.json. Ctrl-C ends it all.")
        sys.stdout.flush()
        while all(machine.counted() for machine in fleet.machines):
            time.sleep(1)


if __name__ == "__main__":
    main()
