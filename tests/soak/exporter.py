"""`pte-trace serve` of a cgroup, and those who scrape it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pte_trace.exporter.reader import FRESH_S
from tests.sockets import reset_at_close

_ADDRESS = ("127.0.0.1", 9818)
# As the tests in tests/attack have it.
BACK_S = 30.0
_SCRAPER = "127.0.0.2"
_TRIES = 5

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
    missed: int = 0
    longest_s: float = 0.0
    _last: dict[Series, float] = field(default_factory=dict)

    def scrape(self) -> None:
        """Take all samples, none older than this."""
        time.sleep(FRESH_S)
        text = self._answer()
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

    def _answer(self) -> str:
        """As Prometheus asks: from an address of its own, and again where it was sent away."""
        for _ in range(_TRIES):
            begun = time.monotonic()
            client = http.client.HTTPConnection(
                *_ADDRESS, timeout=120, source_address=(_SCRAPER, 0)
            )
            with suppress(ConnectionError), closing(client):
                client.request("GET", "/metrics")
                text = client.getresponse().read().decode()
                self.longest_s = max(self.longest_s, time.monotonic() - begun)
                return text
            self.missed += 1
        raise AssertionError("not answered")

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


class Attacker:
    """Attacks it all the time, but for when it is paused."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """With time for the exporter to be as it was."""
        self._stop()
        time.sleep(BACK_S)
        yield
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attack", *map(str, _ADDRESS)]
        )

    def _stop(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None
        self._process.kill()
        self._process.wait()


@contextmanager
def exporter(*options: object, says: str = "", more: int | None = None) -> Iterator[Exporter]:
    """One that listens. It must end well, and have said nothing but *says* meanwhile.

    With *more* it may say what it likes, in so many bytes, but no traceback.
    """
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
            assert process.wait() == 0, meanwhile
            if more is None:
                assert meanwhile == says
            else:
                print(meanwhile, end="")
                assert "Traceback" not in meanwhile
                assert len(meanwhile) <= more
        finally:
            process.kill()
