"""An exporter on loopback, over a simulated kernel, and how to ask it."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
from prometheus_client.parser import text_string_to_metric_families as plain_text

PASSWORD = "correct horse"
PATIENCE_S = 30


@dataclass
class Served:
    """A running exporter: what it said so far, and how to ask it."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.heard("Listening on http").rstrip("/").rpartition(":")
        return host.rpartition("//")[2].strip("[]"), int(port)

    def heard(self, sentence: str) -> str:
        """The line with *sentence*; read on until it comes."""
        for line in self.said:
            if sentence in line:
                return line
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.strip())
            if sentence in line:
                return line.strip()
        raise AssertionError(f"{sentence!r} was not said: {self.said}")

    def connection(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        if tls is None:
            return http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(
            "localhost", self.address[1], timeout=PATIENCE_S, context=tls
        )

    def get(
        self, path: str = "/metrics", tls: ssl.SSLContext | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(self.connection(tls)) as connection:
            connection.request("GET", path, headers=named)
            answer = connection.getresponse()
            return answer, answer.read()

    def status(self, path: str = "/metrics", **headers: str) -> int:
        return self.get(path, None, **headers)[0].status

    def faults(self) -> float:
        return summed(self.get()[1], "pte_trace_write_faults_total")

    def resident(self) -> int:
        """Bytes of memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def summed(body: bytes, name: str) -> float:
    """All series of *name* in what /metrics gave."""
    return sum(
        sample.value
        for family in plain_text(body.decode())
        for sample in family.samples
        if sample.name == name
    )


Serve = Callable[..., Served]


def users() -> str:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return json.dumps({"basic_auth_users": {"ann": hashed}})


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
