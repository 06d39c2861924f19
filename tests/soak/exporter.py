"""`pte-trace serve` of a cgroup, and those who scrape it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pte_trace.exporter.reader import FRESH_S
from tests.sockets import reset_at_close

_ADDRESS = ("127.0.0.1", 9818)
_URL = "http://{}:{}/metrics".format(*_ADDRESS)

Series = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Footprint:
    resident: int
    files: int


@dataclass
class Exporter:
    """A running exporter.

    Each scrape checks that no counter fell since the one before, and that each PTE that was
    inspected is either writable or left read-only.
    """

    process: subprocess.Popen[bytes]
    scrapes: int = 0
    _last: dict[Series, float] = field(default_factory=dict)

    def scrape(self) -> None:
        """Take all samples, none older than this."""
        time.sleep(FRESH_S)
        with urllib.request.urlopen(_URL, timeout=120) as answer:
            text = answer.read().decode()
        samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        for series, value in self._last.items():
            if series[0].endswith("_total"):
                assert samples[series] >= value, series
        self._last = samples
        self.scrapes += 1
        parts = ("ptes_made_writable_total", "ptes_left_readonly_total")
        assert self.sum("ptes_inspected_total") == sum(map(self.sum, parts))

    def sum(self, name: str) -> int:
        """The sum of all series of *name*, of the last scrape."""
        return int(
            sum(value for (each, _), value in self._last.items() if each == f"pte_trace_{name}")
        )

    def by(self, name: str, label: str) -> Mapping[str, int]:
        """The sums of *name* by the values of *label*, of the last scrape."""
        found: Counter[str] = Counter()
        for (each, labels), value in self._last.items():
            if each == f"pte_trace_{name}":
                found[dict(labels)[label]] += int(value)
        return found

    def footprint(self) -> Footprint:
        proc = Path("/proc", str(self.process.pid))
        _, resident, *_ = (proc / "statm").read_text().split()
        return Footprint(int(resident) * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(proc / "fd")))

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It does not run meanwhile; its tables fill."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


def die_while_scraping() -> None:
    """One who asks and resets the connection at the first bytes, one who asks for half of it."""
    for request, wanted in ((b"GET /metrics HTTP/1.1\r\nHost: us\r\n\r\n", 1), (b"GET /met", 0)):
        with socket.create_connection(_ADDRESS) as client:
            client.sendall(request)
            with suppress(ConnectionError):
                client.recv(wanted)
            reset_at_close(client)


@contextmanager
def exporter(*options: object, says: str = "") -> Iterator[Exporter]:
    """One that listens. It must end well, and have said nothing else but *says* meanwhile."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "pte_trace", "serve", *map(str, options)),
            *("--listen", "{}:{}".format(*_ADDRESS)),
        ],
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert b"Listening" in said, said
            yield Exporter(process)
            process.terminate()
            meanwhile = process.stderr.read().decode()
            assert (meanwhile, process.wait()) == (says, 0), meanwhile
        finally:
            process.kill()
