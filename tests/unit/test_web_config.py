"""The web configuration: the exporter-toolkit's format, and what is wrong with a file."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from pte_trace.errors import UsageError
from pte_trace.exporter.web_config import WebConfig, load

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
TLS = "tls_server_config: {cert_file: cert.pem, key_file: key.pem"


@pytest.fixture(scope="session")
def pair() -> tuple[bytes, bytes]:
    leaf = trustme.CA().issue_cert("localhost")
    return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()


@pytest.fixture
def directory(tmp_path: Path, pair: tuple[bytes, bytes]) -> Path:
    (tmp_path / "cert.pem").write_bytes(pair[0])
    (tmp_path / "key.pem").write_bytes(pair[1])
    (tmp_path / "other-key.pem").write_bytes(
        trustme.CA().issue_cert("localhost").private_key_pem.bytes()
    )
    return tmp_path


def read(directory: Path, text: str) -> WebConfig:
    path = directory / "web.yml"
    path.write_text(text)
    return load(path)


def wrong(directory: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(directory, text)
    assert caught.value.what.count(". ") == 0
    return caught.value.what


def test_an_empty_file_asks_for_nothing(directory: Path) -> None:
    config = read(directory, "")
    assert (config.tls, config.users, config.files) == (None, {}, (directory / "web.yml",))


def test_files_are_relative_to_the_configuration(directory: Path) -> None:
    config = read(directory, TLS + "}")
    assert config.tls is not None
    assert config.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert config.tls.verify_mode is ssl.CERT_NONE
    assert [path.name for path in config.files] == ["web.yml", "cert.pem", "key.pem"]


@pytest.mark.parametrize(
    ("auth", "mode"),
    [
        ("NoClientCert", ssl.CERT_NONE),
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ],
)
def test_client_certificates(directory: Path, auth: str, mode: ssl.VerifyMode) -> None:
    config = read(directory, f"{TLS}, client_auth_type: {auth}, client_ca_file: cert.pem}}")
    assert config.tls is not None
    assert config.tls.verify_mode is mode


def test_users_and_headers(directory: Path) -> None:
    config = read(
        directory,
        f"basic_auth_users: {{ann: {HASH}}}\n"
        "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}",
    )
    assert config.users == {"ann": HASH.encode()}
    assert config.headers == {"X-Frame-Options": "deny"}
    assert not config.http2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is not YAML in line 1"),
        ("just text", "is not a mapping"),
        ("basic_auth: {}", "'basic_auth', unknown here"),
        ("tls_server_config: {cert_file: cert.pem}", "without key_file"),
        (TLS + ", curve_preferences: [X25519]}", "'curve_preferences', unknown here"),
        (TLS + ", client_auth_type: RequireAnyClientCert}", "client_auth_type"),
        (TLS + ", client_auth_type: RequireAndVerifyClientCert}", "no client_ca_file"),
        (TLS + ", client_ca_file: gone.pem}", "gone.pem cannot be read: no such file"),
        (TLS + ", client_ca_file: key.pem}", "without a certificate"),
        (TLS + ", min_version: SSL30}", "min_version: SSL30; known here: TLS12, TLS13"),
        ("tls_server_config: {cert_file: no.pem, key_file: key.pem}", "no.pem cannot be read"),
        ("tls_server_config: {cert_file: cert.pem, key_file: other-key.pem}", "not a pair"),
        ("tls_server_config: {cert_file: web.yml, key_file: key.pem}", "not a pair"),
        ("tls_server_config: {cert_file: [1], key_file: key.pem}", "which is no path"),
        ("basic_auth_users: {ann: secret}", "no bcrypt hash for the user 'ann'"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "cannot have a colon"),
        ("basic_auth_users: {1: 2}", "not a line of text"),
        ("http_server_config: {http2: maybe}", "neither true nor false"),
        ("http_server_config: {headers: {Server: x}}", "'Server', unknown here"),
        ('http_server_config: {headers: {X-Frame-Options: "a\\nb"}}', "not a line of text"),
    ],
)
def test_what_is_wrong_is_said(directory: Path, text: str, said: str) -> None:
    assert said in wrong(directory, text)


def test_a_file_that_is_not_there(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yml cannot be read: no such file"):
        load(directory / "gone.yml")
