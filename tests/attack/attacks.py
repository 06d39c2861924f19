"""What is sent, by whom, and how. Each takes a few seconds and leaves nothing open."""

from __future__ import annotations

import itertools
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Protocol

from tests.sockets import reset_at_close

HEAD = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
MANY = 300
_HELD_S = 1.0
# Raw frames of HTTP/2 (RFC 9113): a preface, SETTINGS_INITIAL_WINDOW_SIZE 0, streams.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_NO_WINDOW = b"\0\0\6\4\0\0\0\0\0\0\4\0\0\0\0"
# :method GET, :scheme http, :path /, :authority a; HPACK, RFC 7541.
_FIELDS = b"\x82\x86\x84\x41\x01a"


def _streams(fields: bytes) -> bytes:
    frame = struct.pack(">I", len(fields))[1:] + b"\1\5"
    return b"".join(frame + struct.pack(">I", number) + fields for number in range(1, 200, 2))


# What is not a request, or one that wants more than an answer.
SENT: dict[str, bytes] = {
    "nothing": b"",
    "half a head": b"GET /metrics HTTP/1.1\r\nHo",
    "a body of many chunks": b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n" + b"1\r\na\r\n" * 40,
    "a get with many chunks": b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    b"\r\n" + b"1\r\na\r\n" * 40,
    "a body that does not come": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
    "two lengths": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length that is none": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an expectation": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
    b"Expect: 100-continue\r\n\r\n",
    "many requests at once": HEAD * 500,
    "a header of 200 KB": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000,
    "5,000 headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000,
    "no HTTP/1.1": b"GET /metrics\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "zeros": b"\0" * 5000,
    "letters": b"A" * 100_000,
    "line feeds": b"\n" * 5000,
    "a path that is not ASCII": b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header that is not ASCII": b"GET / HTTP/1.1\r\nHost: \xff\r\nAccept: \xff\xfe\r\n\r\n",
    "a whole address": b"GET http://user:pw@[::1/metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT": b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TRACE": b"TRACE /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method of 9,000 letters": b"G" * 9000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a websocket": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
    b"Connection: upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "HTTP/2 by upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n"
    b"Connection: upgrade, http2-settings\r\nHTTP2-Settings: AAMAAABkAAQAAAAA\r\n\r\n" + _PREFACE,
    "HTTP/2's preface": _PREFACE,
    "HTTP/2 without a window": _PREFACE + _NO_WINDOW + _streams(_FIELDS),
    "HTTP/2 without a path": _PREFACE + _NO_WINDOW + _streams(b"\x82\x86"),
    "a TLS handshake's beginning": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "passwords that are none": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic !!\r\n\r\n",
    "strange wishes": b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip;q=x;q=,;;\r\n"
    b"Accept: application/openmetrics-text;version=\xff;q=1e999\r\nRange: bytes=-1\r\n\r\n",
    "a request whose answer is not taken": HEAD,
}


class Target(Protocol):
    """An exporter. ``tls``: how to speak it, None in clear."""

    tls: ssl.SSLContext | None

    def connected(self, origin: str = "127.0.0.1") -> socket.socket: ...


@contextmanager
def _crowd(fort: Target, count: int) -> Iterator[list[socket.socket]]:
    """Connections, by TLS where it is spoken; those that fail are left out."""
    with ExitStack() as opened:
        clients = []
        for _ in range(count):
            with suppress(OSError):
                clients.append(opened.enter_context(secured(fort, fort.connected())))
        yield clients


def secured(fort: Target, client: socket.socket) -> socket.socket:
    if fort.tls is None:
        return client
    return fort.tls.wrap_socket(client, server_hostname="127.0.0.1")


def send_and_hold(fort: Target, kinds: Iterable[bytes]) -> None:
    """Many send one of *kinds*, and then only wait."""
    with _crowd(fort, MANY) as clients:
        for each, sent in zip(clients, itertools.cycle(kinds)):
            each.settimeout(0.2)
            with suppress(OSError):
                each.sendall(sent)
        time.sleep(_HELD_S)


def drip(fort: Target) -> None:
    """Heads that come byte by byte."""
    with _crowd(fort, 100) as clients:
        for byte in b"GET /metrics HTTP/1.1\r\nX":
            for each in clients:
                with suppress(OSError):
                    each.sendall(bytes([byte]))
            time.sleep(0.15)


def come_and_go(fort: Target) -> None:
    """10,000 connections that are closed at once, every second by a reset."""
    for number in range(10_000):
        with suppress(OSError), fort.connected() as client:
            if number % 2:
                reset_at_close(client)


def reset_while_answered(fort: Target) -> None:
    for _ in range(300):
        with suppress(OSError), secured(fort, fort.connected()) as client:
            client.sendall(HEAD)
            client.recv(1)
            reset_at_close(client)


def ask_on_and_on(fort: Target) -> None:
    """Answers that are taken as fast as they come, by many at a time."""
    end = time.monotonic() + 3
    while time.monotonic() < end:
        with _crowd(fort, 50) as clients:
            for each in clients:
                with suppress(OSError):
                    each.sendall(HEAD)
            for each in clients:
                with suppress(OSError):
                    while each.recv(1 << 16):
                        pass


def from_everywhere(fort: Target) -> None:
    """Half a head each, from a thousand addresses."""
    with ExitStack() as opened:
        for number in range(1000):
            with suppress(OSError):
                origin = f"127.1.{number // 250}.{number % 250 + 1}"
                opened.enter_context(fort.connected(origin)).sendall(b"GET /met")
        time.sleep(_HELD_S)


def bodies_without_end(fort: Target) -> None:
    """As fast as they are taken."""
    with _crowd(fort, 20) as clients:
        end = time.monotonic() + 2
        for each in clients:
            each.settimeout(0.2)
            with suppress(OSError):
                each.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n")
        while time.monotonic() < end:
            for each in clients:
                with suppress(OSError):
                    each.sendall(b"x" * (1 << 18))


Attack = Callable[[Target], None]
OTHERS: tuple[Attack, ...] = (
    *(drip, come_and_go, reset_while_answered, ask_on_and_on),
    *(from_everywhere, bodies_without_end),
)


def half_a_handshake(fort: Target) -> None:
    """A ClientHello, and no more."""
    hello = client_hello()
    with ExitStack() as opened:
        for _ in range(200):
            client = opened.enter_context(fort.connected())
            client.sendall(hello)
        time.sleep(_HELD_S)


def a_broken_record(fort: Target) -> None:
    """After the handshake, what no key fits."""
    for client in _raw_after_handshake(fort, 100):
        with suppress(OSError):
            client.sendall(b"\x17\x03\x03\x00\x20" + b"\xff" * 32)


def no_farewell(fort: Target) -> None:
    """TCP ends, TLS does not."""
    for client in _raw_after_handshake(fort, 100):
        client.close()


def records_of_nothing(fort: Target) -> None:
    """Records that carry no byte, and alerts, without end."""
    for client in _raw_after_handshake(fort, 20):
        with suppress(OSError):
            for _ in range(200):
                client.sendall(b"\x17\x03\x03\x00\x00" * 1000)


def plain_http(fort: Target) -> None:
    for _ in range(MANY):
        with suppress(OSError), fort.connected() as client:
            client.sendall(HEAD)
            client.recv(100)


def handshakes(fort: Target) -> None:
    """Nothing but handshakes, of TLS 1.2, without tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET
    for _ in range(1000):
        with suppress(OSError):
            context.wrap_socket(fort.connected()).close()


def client_hello() -> bytes:
    came, to_go = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(came, to_go, server_hostname="a")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return to_go.read()


def _raw_after_handshake(fort: Target, count: int) -> Iterator[socket.socket]:
    assert fort.tls is not None
    for _ in range(count):
        with fort.connected() as client:
            came, to_go = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = fort.tls.wrap_bio(came, to_go, server_hostname="127.0.0.1")
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    client.sendall(to_go.read())
                    came.write(client.recv(1 << 16))
                else:
                    client.sendall(to_go.read())
                    break
            yield client


OF_TLS: tuple[Attack, ...] = (
    *(half_a_handshake, a_broken_record, no_farewell, records_of_nothing, plain_http),
    handshakes,
)
