"""A web configuration of anything is read, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pte_trace.errors import UsageError
from pte_trace.exporter.web_config import WebConfig, load
from tests.fuzz.examples import one_of

pytestmark = pytest.mark.timeout(3600)

HASH = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi"
SECTIONS = ["tls_server_config", "http_server_config", "basic_auth_users"]
KEYS = [
    *("cert_file", "key_file", "client_auth_type", "client_ca_file", "min_version", "max_version"),
    *("cert", "key", "client_ca", "cipher_suites"),
    *("prefer_server_cipher_suites", "http2", "headers", "X-Frame-Options", "ann"),
]
VALUES = [
    *("cert.pem", "web.yml", ".", "TLS12", "RequireAndVerifyClientCert", "deny", HASH),
    *("TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(max_size=20)
    | st.sampled_from(VALUES)
)
KNOWN = st.sampled_from(KEYS) | st.text(max_size=9)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KNOWN, inner, max_size=4),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from(SECTIONS), st.dictionaries(KNOWN, ANYTHING, max_size=5) | ANYTHING
)


def read_or_refused(directory: Path, text: bytes) -> None:
    path = directory / "web.yml"
    path.write_bytes(text)
    try:
        config = load(path)
    except UsageError as error:
        said = str(error)
    else:
        assert isinstance(config, WebConfig)
        return
    assert said.endswith(".")
    assert len(said) < 1000 + len(str(directory)) + len(text)


@one_of(1)
@given(document=DOCUMENTS)
def test_a_document_of_anything(tmp_path: Path, document: Any) -> None:
    read_or_refused(tmp_path, yaml.safe_dump(document, allow_unicode=True).encode())


@one_of(1)
@given(begin=st.sampled_from([b"", *(f"{each}: ".encode() for each in SECTIONS)]), text=st.binary())
@example(begin=b"", text=b"2001-99-99")
@example(begin=b"", text=b"!!timestamp x")
@example(begin=b"", text=b"!!bool x")
@example(begin=b"", text=b"!!int x")
@example(begin=b"", text=b"9" * 5000)
@example(begin=b"", text=b"[" * 5000)
@example(begin=b"", text=b"? {a: b}\n: c")
@example(begin=b"", text=b"&a [*a]")
@example(begin=b"http_server_config: ", text=b'{headers: {X-Frame-Options: "a\\rSet-Cookie: b"}}')
@example(begin=b"tls_server_config: ", text=b'{cert_file: "a\\0b", key_file: "\\ud800"}')
@example(begin=b"tls_server_config: ", text=b"{cert_file: ., key_file: /proc/self/mem}")
def test_text_of_anything(tmp_path: Path, begin: bytes, text: bytes) -> None:
    read_or_refused(tmp_path, begin + text)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "text",
    [
        "http_server_config: {http2: %s}",
        "tls_server_config: {cert_file: %s, key_file: k}",
        "tls_server_config: {cert_file: web.yml, key_file: web.yml, min_version: %s}",
    ],
)
def test_lists_made_of_aliases_are_not_written_out(tmp_path: Path, text: str) -> None:
    twice = "[x, x]"
    for number in range(40):
        twice = f"[&a{number} {twice}, *a{number}]"
    read_or_refused(tmp_path, (text % twice).encode())
