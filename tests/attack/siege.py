"""An exporter under attack: what another client gets, and what is left of the attack.

While an attack lasts, scrapes come from the attacker's own address and from another: each must be
answered in time, and no counter may fall. After it open files, memory and log are as they were.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.served import Served, summed

IN_TIME_S = 2.0
BACK_S = 30.0
_OFTEN_S = 0.3
_MOST_LOG = 20_000
_MORE_RESIDENT = 8 << 20
_ORIGINS = ("127.0.0.1", "127.0.0.2")
_COUNTERS = ("pte_trace_write_faults_total", "pte_trace_readings_total")


@dataclass
class Fort(Served):
    """A running exporter that writes its log to a file. ``headers``: what its users send."""

    log: Path = Path()
    tls: ssl.SSLContext | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def heard(self, sentence: str) -> str:
        end = time.monotonic() + BACK_S
        while time.monotonic() < end:
            for line in self.log.read_text().splitlines():
                if sentence in line:
                    return line
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{sentence!r} was not said: {self.log.read_text()}")

    def connected(self, origin: str = _ORIGINS[0], patience: float = BACK_S) -> socket.socket:
        return socket.create_connection(self.address, patience, (origin, 0))

    def scrape(self, origin: str, patience: float = IN_TIME_S) -> tuple[int, bytes]:
        """Status and body, all of it in *patience* seconds."""
        connection: http.client.HTTPConnection
        if self.tls is None:
            connection = http.client.HTTPConnection(
                *self.address, timeout=patience, source_address=(origin, 0)
            )
        else:
            connection = http.client.HTTPSConnection(
                *self.address, timeout=patience, source_address=(origin, 0), context=self.tls
            )
        with closing(connection):
            connection.request("GET", "/metrics", headers=self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self) -> None:
        """It ends as it should, whatever it went through."""
        self.process.terminate()
        assert self.process.wait(BACK_S) == 0
        said = self.log.read_text()
        assert "Traceback" not in said
        assert len(said) < _MOST_LOG


def start(log: Path, *command: object) -> Fort:
    with log.open("wb") as file:
        process = subprocess.Popen([*map(str, command)], stderr=file, text=True)
    return Fort(process, log=log)


@dataclass
class Watch:
    """What the scrapes meanwhile found."""

    fort: Fort
    longest_s: float = 0.0
    scrapes: int = 0
    failures: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        last: dict[str, float] = {}
        while not self._over.is_set():
            for origin in _ORIGINS:
                begun = time.monotonic()
                try:
                    status, body = self.fort.scrape(origin)
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{origin}: {type(error).__name__}: {error}")
                    continue
                self.scrapes += 1
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                if status != 200:
                    self.failures.append(f"{origin}: status {status}")
                    continue
                counters = {name: summed(body, name) for name in _COUNTERS}
                fell = [name for name in _COUNTERS if counters[name] < last.get(name, 0)]
                self.failures.extend(f"{name} fell" for name in fell)
                last = counters
            self._over.wait(_OFTEN_S)

    def end(self) -> None:
        self._over.set()


@contextmanager
def watched(fort: Fort) -> Iterator[Watch]:
    """The attack is inside. Raises AssertionError where something does not hold."""
    for origin in _ORIGINS:
        assert fort.scrape(origin, BACK_S)[0] == 200
    settle(fort, fort.files())
    files, resident, log = fort.files(), fort.resident(), fort.log.stat().st_size
    watch = Watch(fort)
    thread = threading.Thread(target=watch.keep)
    thread.start()
    try:
        yield watch
    finally:
        watch.end()
        thread.join()
    assert not watch.failures, watch.failures[:5]
    assert watch.scrapes >= len(_ORIGINS)
    assert watch.longest_s < IN_TIME_S
    settle(fort, files, resident + _MORE_RESIDENT)
    assert fort.log.stat().st_size - log < _MOST_LOG
    assert fort.process.poll() is None


def settle(fort: Fort, files: int, resident: float = float("inf")) -> None:
    """Wait until no more than that is open and resident."""
    end = time.monotonic() + BACK_S
    while fort.files() > files or fort.resident() > resident:
        assert time.monotonic() < end, (fort.files(), files, fort.resident(), resident)
        time.sleep(0.1)
