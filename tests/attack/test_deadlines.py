"""Connections end by a time that is ours, whatever the other end does."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress

import pytest

from pte_trace.exporter.connection import HEAD_S, WHOLE_S
from tests.attack import attacks
from tests.attack.conftest import Forts
from tests.attack.siege import watched

_MORE_S = 5
_MORE_THAN_THE_KERNEL_KEEPS = ("--label", f"pad={'x' * 50_000}")
_LARGE = [part for name in "ab" for part in ("--label", f"{name}={'x' * 100_000}")]


def ends(client: socket.socket) -> bool:
    """Whether the other side has ended it, by now."""
    client.setblocking(False)
    try:
        while client.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_whoever_says_nothing_more_is_gone(fort: Forts, tls: bool) -> None:
    """All kinds at once, each client holding on to its end; and one that sends byte by byte."""
    besieged = fort(tls=tls)
    with ExitStack() as opened, watched(besieged):
        clients = {
            name: opened.enter_context(attacks.secured(besieged, besieged.connected()))
            for name in [*attacks.SENT, "byte by byte"]
        }
        if tls:
            clients["half a handshake"] = opened.enter_context(besieged.connected())
            clients["half a handshake"].sendall(attacks.client_hello())
        for name, client in clients.items():
            with suppress(OSError):
                client.sendall(attacks.SENT.get(name, b"GET /metrics HTTP/1.1\r\nX"))
        end = time.monotonic() + HEAD_S + _MORE_S
        while time.monotonic() < end:
            with suppress(OSError):
                clients["byte by byte"].sendall(b"-")
            time.sleep(0.5)
        assert [name for name, client in clients.items() if not ends(client)] == []
    besieged.end()


def test_whoever_does_not_take_its_answer_is_gone(fort: Forts) -> None:
    """Answers larger than what the kernel keeps; one client takes some bytes now and then."""
    besieged = fort(*_MORE_THAN_THE_KERNEL_KEEPS)
    before = besieged.files()
    with ExitStack() as opened:
        clients = []
        for _ in range(100):
            client = opened.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(besieged.address)
            client.sendall(attacks.HEAD)
            clients.append(client)
        begun = time.monotonic()
        assert besieged.scrape("127.0.0.2")[0] == 200
        while besieged.files() > before:
            assert time.monotonic() < begun + WHOLE_S + _MORE_S
            with suppress(OSError):
                clients[0].recv(100)
            time.sleep(0.5)
    besieged.end()


def test_answers_that_are_not_taken_do_not_pile_up(fort: Forts) -> None:
    """Each of another moment, of 16 MB and more, and kept by somebody."""
    besieged = fort(*_LARGE)
    assert besieged.scrape("127.0.0.2", 30)[0] == 200
    size = len(besieged.scrape("127.0.0.2", 30)[1])
    assert size > 16 << 20
    before = besieged.resident()
    with ExitStack() as opened:
        for _ in range(24):
            client = opened.enter_context(besieged.connected())
            client.sendall(attacks.HEAD)
            time.sleep(0.6)
        assert besieged.resident() - before < 7 * size
    besieged.end()
