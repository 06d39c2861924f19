"""Whoever asks, and however: `pte-trace serve` goes on, counts right, and does not grow."""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from pte_trace.counted.counters import WRITE_FAULTS
from pte_trace.exporter.reader import FRESH_S
from tests.integration.served import PATIENCE_S, Serve, summed
from tests.simulated import RECORDS
from tests.sockets import reset_at_close


def test_a_hundred_scrapes_at_once(serve: Serve) -> None:
    served = serve()
    begun = time.monotonic()
    before = summed(served.get()[1], "pte_trace_readings_total")
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: served.get(), range(100)))
    took = time.monotonic() - begun
    a_reading = sum(each.counts.sum(WRITE_FAULTS) for each in RECORDS)
    assert {answer.status for answer, _ in answers} == {200}
    for _, body in answers:
        readings = summed(body, "pte_trace_readings_total")
        assert summed(body, "pte_trace_write_faults_total") == a_reading * readings
        assert before <= readings <= before + took / FRESH_S + 1


def test_who_takes_no_answer_takes_no_memory(serve: Serve) -> None:
    """Answers of megabytes, and clients that read nothing of them."""
    served = serve("--label", f"pad={'x' * 100_000}")
    answer = served.get()[1]
    size = len(answer)
    assert size > 8 << 20
    before = served.resident()
    with ExitStack() as opened:
        idle = [
            opened.enter_context(socket.create_connection(served.address, PATIENCE_S))
            for _ in range(30)
        ]
        # At once: who asks at another moment gets another answer.
        for each in idle:
            each.sendall(b"GET /metrics HTTP/1.1\r\nHost: idle\r\n\r\n")
        assert served.status("/-/healthy") == 200
        # In lines: a number may have a digit less than before.
        assert served.get()[1].count(b"\n") == answer.count(b"\n")
        assert served.resident() - before < 4 * size


def test_who_goes_away_in_the_midst_of_an_answer_is_no_news(serve: Serve) -> None:
    served = serve("--label", f"pad={'x' * 100_000}")
    assert served.status() == 200
    for _ in range(5):
        with socket.create_connection(served.address, PATIENCE_S) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: gone\r\n\r\n")
            client.recv(1)
            reset_at_close(client)
    assert served.status() == 200
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    assert served.process.stderr is not None
    assert served.process.stderr.read() == ""


def test_a_slow_client_keeps_nobody_waiting_and_is_sent_away(serve: Serve) -> None:
    served = serve()
    slow = [socket.create_connection(served.address, PATIENCE_S) for _ in range(20)]
    gone = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            for byte in b"GET /metrics HTTP/1.1\r\nHost: slow\r\nX-Slow: yes, very":
                for each in slow:
                    each.sendall(bytes([byte]))
                time.sleep(1)
        gone.set()

    threading.Thread(target=drip, daemon=True).start()
    assert served.status() == 200
    assert gone.wait(PATIENCE_S)
    assert served.status() == 200
    for each in slow:
        each.close()


def test_an_immense_header_is_refused(serve: Serve) -> None:
    served = serve()
    assert served.status() == 200
    before = served.resident()
    for _ in range(20):
        with socket.create_connection(served.address, PATIENCE_S) as client, suppress(OSError):
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (1 << 20))
            client.sendall(b"\r\n\r\n")
            assert b" 431 " in client.recv(100)
    assert served.status() == 200
    assert served.resident() - before < 8 << 20


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_nonsense_ends_nothing(serve: Serve, nonsense: bytes) -> None:
    served = serve()
    with socket.create_connection(served.address, PATIENCE_S) as client:
        client.sendall(nonsense)
        with suppress(OSError):
            assert b"HTTP/1.1 200" not in client.recv(100)
    assert served.status() == 200


def test_a_scrape_while_it_ends(serve: Serve) -> None:
    served = serve()
    statuses = set()

    def scrape() -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                statuses.add(served.status())

    assert served.address
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for thread in threads:
        thread.start()
    while not statuses:
        time.sleep(0.01)
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    for thread in threads:
        thread.join()
    assert statuses == {200}
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()


def test_memory_does_not_grow(serve: Serve) -> None:
    served = serve()

    def scrape(times: int) -> None:
        for _ in range(times):
            assert served.get(Accept_Encoding="gzip", Accept=f"a/{os.urandom(4).hex()}")

    scrape(300)
    before = served.resident()
    scrape(1000)
    assert served.resident() - before < 2 << 20
