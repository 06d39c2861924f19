"""`pte-trace serve --web-config`: passwords, TLS, and what is changed while it runs."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trustme

from tests.integration.served import PASSWORD, PATIENCE_S, Serve, basic, users


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf = made.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    return made


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_passwords(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(users())
    served = serve("--web-config", path)
    assert served.status() == 401
    assert served.get()[0].headers["WWW-Authenticate"].startswith("Basic ")
    assert served.status("/-/healthy") == 401
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    for wrong in (
        basic("ann", "guess"),
        basic("ann", "x" * 1000),
        basic("ann", "\0"),
        basic("", PASSWORD),
        basic("bob", PASSWORD),
        "Basic !!!",
        "Basic",
        "Bearer token",
    ):
        assert served.status(Authorization=wrong) == 401


def test_tls(serve: Serve, tmp_path: Path, authority: trustme.CA) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}")
    served = serve("--web-config", path)
    assert served.heard("Listening").startswith("pte-trace: Listening on https://")
    assert served.get(tls=trusting(authority))[0].status == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        served.status()
    with socket.create_connection(served.address, PATIENCE_S) as silent:
        assert served.get(tls=trusting(authority))[0].status == 200
        assert silent


def test_client_certificates(serve: Serve, tmp_path: Path, authority: trustme.CA) -> None:
    path = tmp_path / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem,"
        " client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}"
    )
    served = serve("--web-config", path)
    stranger, known = trusting(authority), trusting(authority)
    authority.issue_cert("client").configure_cert(known)
    trustme.CA().issue_cert("client").configure_cert(stranger)
    assert served.get(tls=known)[0].status == 200
    for refused in (stranger, trusting(authority)):
        with pytest.raises(OSError):  # noqa: PT011
            served.get(tls=refused)


def test_a_changed_web_configuration_takes_effect(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("")
    served = serve("--web-config", path)
    before = served.faults()
    path.write_text(users())
    served.heard("read again")
    assert served.status() == 401
    path.write_text("nonsense")
    assert "from before stays in force" in served.heard("is not a mapping")
    assert served.status() == 401
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}")
    while served.status() == 401:
        time.sleep(0.1)
    assert served.get()[0].headers["X-Frame-Options"] == "deny"
    assert served.faults() >= before


def test_a_renewed_certificate_takes_effect(
    serve: Serve, tmp_path: Path, authority: trustme.CA
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: both.pem, key_file: both.pem}")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    served = serve("--web-config", path)
    assert served.get(tls=trusting(authority))[0].status == 200
    successor = trustme.CA()
    successor.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    served.heard("read again")
    assert served.get(tls=trusting(successor))[0].status == 200


def test_what_was_agreed_before_a_change_does_not_count(
    serve: Serve, tmp_path: Path, authority: trustme.CA
) -> None:
    """Connections that are there already, and ask when it has changed who may."""
    path = tmp_path / "web.yml"
    pair = "tls_server_config: {cert_file: cert.pem, key_file: key.pem"
    path.write_text(pair + "}")
    served = serve("--web-config", path)
    tls = trusting(authority)

    def connected() -> ssl.SSLSocket:
        client = socket.create_connection(served.address, PATIENCE_S)
        return tls.wrap_socket(client, server_hostname="localhost")

    with connected() as before:
        path.write_text(
            pair + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}"
        )
        served.heard("read again")
        before.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        with suppress(OSError):
            received = before.recv(100)
        assert received == b""
    with pytest.raises(OSError):  # noqa: PT011
        served.get(tls=tls)


def test_a_password_is_asked_for_on_connections_from_before(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("")
    served = serve("--web-config", path)
    assert served.status() == 200
    with socket.create_connection(served.address, PATIENCE_S) as before:
        before.sendall(b"GET /metrics HTTP/1.1\r\n")
        path.write_text(users())
        served.heard("read again")
        before.sendall(b"Host: a\r\n\r\n")
        assert before.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_certificate_in_the_configuration_itself(
    serve: Serve, tmp_path: Path, authority: trustme.CA
) -> None:
    """It is taken when there are no rights any more, and with the suites that were chosen."""
    leaf = authority.issue_cert("localhost")
    path = tmp_path / "web.yml"
    path.write_text("")
    served = serve("--web-config", path)
    assert served.status() == 200
    settings = {
        "cert": leaf.cert_chain_pems[0].bytes().decode(),
        "key": leaf.private_key_pem.bytes().decode(),
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"],
    }
    path.write_text(json.dumps({"tls_server_config": settings}))
    served.heard("read again")
    tls = trusting(authority)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert served.get(tls=tls)[0].status == 200
    connection = served.connection(tls)
    with closing(connection):
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        assert connection.sock.cipher() == ("ECDHE-ECDSA-AES256-SHA", "TLSv1.0", 256)
