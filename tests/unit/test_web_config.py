"""The web configuration: the exporter-toolkit's format, and what is wrong with a file."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
import yaml

from pte_trace.errors import UsageError
from pte_trace.exporter.web_config import CIPHERS, WebConfig, load
from pte_trace.kernel.rights import NOBODY

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
VERIFY = "client_auth_type: RequireAndVerifyClientCert"
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
    assert (config.tls, config.users, list(config.files)) == (None, {}, [directory / "web.yml"])


def test_files_are_relative_to_the_configuration(directory: Path) -> None:
    config = read(directory, TLS + "}")
    assert config.tls is not None
    assert config.tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert config.tls.verify_mode is ssl.CERT_NONE
    assert [path.name for path in config.files] == ["web.yml", "cert.pem", "key.pem"]


@pytest.mark.parametrize(
    ("auth", "mode"),
    [
        ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL),
        ("RequireAndVerifyClientCert", ssl.CERT_REQUIRED),
    ],
)
def test_client_certificates(directory: Path, auth: str, mode: ssl.VerifyMode) -> None:
    config = read(directory, f"{TLS}, client_auth_type: {auth}, client_ca_file: cert.pem}}")
    assert config.tls is not None
    assert config.tls.verify_mode is mode


@pytest.mark.parametrize("auth", ["", ", client_auth_type: NoClientCert"])
@pytest.mark.parametrize("authority", ["client_ca_file: cert.pem", "client_ca: X"])
def test_an_authority_that_nobody_is_asked_for(directory: Path, auth: str, authority: str) -> None:
    """Else everybody could connect where somebody thought of client certificates."""
    said = wrong(directory, f"{TLS}, {authority}{auth}}}")
    assert "a client_ca_file, but no client_auth_type that asks for one" in said


def test_a_certificate_may_be_in_the_configuration(
    directory: Path, pair: tuple[bytes, bytes]
) -> None:
    certificate, key = (each.decode() for each in pair)
    settings = {
        "cert": certificate,
        "key": key,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca": certificate,
    }
    config = read(directory, yaml.safe_dump({"tls_server_config": settings}))
    assert config.tls is not None
    assert config.tls.verify_mode is ssl.CERT_REQUIRED
    assert config.tls.cert_store_stats()["x509"] == 1
    assert [path.name for path in config.files] == ["web.yml"]


def test_the_suites_of_tls_1_2_are_chosen_by_gos_names(directory: Path) -> None:
    suites = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
    config = read(directory, f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256, {suites}]}}")
    assert config.tls is not None
    chosen = [each["name"] for each in config.tls.get_ciphers() if each["protocol"] != "TLSv1.3"]
    assert chosen == ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]


@pytest.mark.parametrize("ours", [True, False])
def test_whose_preference_of_suites_counts(directory: Path, ours: bool) -> None:
    config = read(directory, f"{TLS}, prefer_server_cipher_suites: {str(ours).lower()}}}")
    assert config.tls is not None
    assert bool(config.tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE) is ours


def test_each_suite_is_known_to_openssl(directory: Path) -> None:
    config = read(directory, f"{TLS}, cipher_suites: [{', '.join(CIPHERS)}]}}")
    assert config.tls is not None
    known = {each["name"] for each in config.tls.get_ciphers()}
    assert set(CIPHERS.values()) <= known


def test_users_and_headers(directory: Path) -> None:
    config = read(
        directory,
        f"basic_auth_users: {{ann: {HASH}}}\n"
        "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}",
    )
    assert config.users == {"ann": HASH.encode()}
    assert config.headers == {"X-Frame-Options": "deny"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is not YAML in line 1"),
        ("just text", "is not a mapping"),
        ("basic_auth: {}", "'basic_auth', unknown here"),
        ("tls_server_config: {cert_file: cert.pem}", "without key_file"),
        (TLS + ", curve_preferences: [X25519]}", "'curve_preferences', unknown here"),
        (TLS + ", client_auth_type: RequireAnyClientCert}", "client_auth_type"),
        (TLS + f", {VERIFY}}}", "no client_ca_file"),
        (TLS + f", {VERIFY}, client_ca_file: gone.pem}}", "gone.pem cannot be read: no such file"),
        (TLS + f", {VERIFY}, client_ca_file: key.pem}}", "without a certificate"),
        (TLS + f", {VERIFY}, client_ca: nonsense}}", "without a certificate"),
        (TLS + ", cert: text}", "has both cert and cert_file"),
        ("tls_server_config: {cert_file: cert.pem, key: [secret]}", "has a key that is not text"),
        ("tls_server_config: {cert_file: cert.pem, key: secret}", "not a pair"),
        (TLS + ", cipher_suites: TLS_AES_128_GCM_SHA256}", "are not a list"),
        (TLS + ", cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}", "suite TLS_RSA_WITH_RC4_128_SHA;"),
        (TLS + ", cipher_suites: [[]]}", "suite a list;"),
        (TLS + ", cipher_suites: [TLS_AES_128_GCM_SHA256]}", "without min_version: TLS13"),
        (TLS + ", min_version: SSL30}", "min_version: SSL30; known here: TLS12, TLS13"),
        ("tls_server_config: {cert_file: no.pem, key_file: key.pem}", "no.pem cannot be read"),
        ("tls_server_config: {cert_file: cert.pem, key_file: other-key.pem}", "not a pair"),
        ("tls_server_config: {cert_file: web.yml, key_file: key.pem}", "not a pair"),
        ("tls_server_config: {cert_file: cert.pem, key_file: .}", "cannot be read: is a directory"),
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


@contextmanager
def nobody() -> Iterator[None]:
    """Whom root's files are closed to; another user's own without a mode are so anyway."""
    user = os.geteuid()
    if not user:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "web.yml"])
def test_a_file_that_may_not_be_read(pair: tuple[bytes, bytes], name: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        directory.chmod(0o755)
        for each, text in zip(("cert.pem", "key.pem"), pair, strict=True):
            (directory / each).write_bytes(text)
        path = directory / "web.yml"
        path.write_text(TLS + "}")
        (directory / name).chmod(0)
        denied = rf"{name} cannot be read: permission denied\."
        with nobody(), pytest.raises(UsageError, match=denied):
            load(path)


def test_a_file_that_is_not_there(directory: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yml cannot be read: no such file"):
        load(directory / "gone.yml")
