"""Requests as HTTP/1 allows them, each of which gets its answer and then the end."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from tests.integration.served import PATIENCE_S, Serve, Served


def answer(served: Served, sent: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """All that comes until the end, after the sending side was ended."""
    with socket.create_connection(served.address, PATIENCE_S) as client:
        if tls is None:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))
        came, to_go = ssl.MemoryBIO(), ssl.MemoryBIO()
        speaker = tls.wrap_bio(came, to_go, server_hostname="localhost")
        while True:
            try:
                speaker.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(to_go.read())
                came.write(client.recv(1 << 16))
        speaker.write(sent)
        try:
            speaker.unwrap()  # our half of the farewell
        except ssl.SSLWantReadError:
            client.sendall(to_go.read())
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET http://other:1/metrics?x=y HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET HTTPS://other HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET /%6detrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 200),
        (b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET //metrics HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 90 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"\n" * 1000, 405),
    ],
)
def test_one_request_one_answer(serve: Serve, sent: bytes, status: int) -> None:
    head, _, body = answer(serve(), sent).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in head.lower()
    assert b"HTTP/1.1" not in body
    assert (body == b"") == sent.startswith(b"HEAD")


def test_an_immense_body_does_not_take_the_answer_back(serve: Serve) -> None:
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    assert answer(serve(), sent).startswith(b"HTTP/1.1 405 ")


def test_by_tls_too(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: both.pem, key_file: both.pem}")
    served = serve("--web-config", path)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    assert len(answer(served, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", tls)) > 10_000
    # HTTP/2 is offered to nobody; who would rather have it gets HTTP/1.1.
    tls.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(served.address, PATIENCE_S) as client:
        speaker = tls.wrap_socket(client, server_hostname="localhost")
        assert speaker.selected_alpn_protocol() == "http/1.1"
        speaker.close()
