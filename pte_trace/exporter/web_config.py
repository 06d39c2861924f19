"""--web-config: TLS, client certificates and passwords, in the exporter-toolkit's format.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md. What is not
supported is refused, not ignored; deploy/README.md has the reasons.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pte_trace.errors import UsageError
from pte_trace.views.printable import printable

_VERSIONS = {
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
# Go's names of the suites it calls secure (crypto/tls, CipherSuites()), and OpenSSL's.
CIPHERS = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
# Those of TLS 1.3 are always offered: neither Go nor Python's ssl lets one choose.
_CIPHERS_OF_TLS13 = {
    *("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"),
}
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_HEADERS = {
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
}
_TLS_KEYS = (
    *("cert", "cert_file", "key", "key_file", "client_auth_type", "client_ca", "client_ca_file"),
    *("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites"),
)
# The others are raised for what a tag or a pattern makes a number or a date, and is none.
_NOT_YAML = (
    *(yaml.YAMLError, AttributeError, LookupError, OverflowError, RecursionError),
    *(TypeError, ValueError),
)
_DOCUMENTED = "Its format is the exporter-toolkit's: tls_server_config, basic_auth_users."


Signature = tuple[int, ...]


def signature(path: Path) -> Signature:
    """What is another where a file was changed: the last number is when, in ns of the clock.

    Nothing where there is none to read.
    """
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True)
class WebConfig:
    """How to serve. ``users``: bcrypt hashes by name; without any, no password is asked for.

    ``files``: what it was read from, each as it was before it was read.
    """

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[Path, Signature] = field(default_factory=dict)


def load(path: Path) -> WebConfig:
    """Read *path* and the files it names, which are relative to it. Raises UsageError."""
    return _Reading(path).config()


class _Reading:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = {path: signature(path)}

    def config(self) -> WebConfig:
        try:
            text = self._path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(self._path, error) from error
        try:
            document = yaml.safe_load(text)
        except _NOT_YAML as error:
            mark = getattr(error, "problem_mark", None)
            where = f" in line {mark.line + 1}" if mark else ""
            raise self._wrong(f"is not YAML{where}") from error
        settings = self._mapping(
            "the file", document, ("tls_server_config", "http_server_config", "basic_auth_users")
        )
        http = self._mapping(
            "http_server_config", settings.get("http_server_config"), ("http2", "headers")
        )
        # It allows HTTP/2; that nobody is offered it is no reason to refuse a file.
        self._switch("http2", http.get("http2"))
        return WebConfig(
            tls=self._tls(settings.get("tls_server_config")),
            headers=self._strings("headers", http.get("headers"), sorted(_HEADERS)),
            users=self._users(settings.get("basic_auth_users")),
            files=self._files,
        )

    def _tls(self, given: Any) -> ssl.SSLContext | None:
        settings = self._mapping("tls_server_config", given, _TLS_KEYS)
        if not settings:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        name = "prefer_server_cipher_suites"
        if not self._switch(name, settings.get(name, True)):
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        context.minimum_version = self._choice(settings, "min_version", "TLS12", _VERSIONS)
        context.maximum_version = self._choice(settings, "max_version", "TLS13", _VERSIONS)
        self._choose_ciphers(context, settings.get("cipher_suites"))
        with ExitStack() as opened:
            certificate, key, authority = (
                self._pem(settings, name, opened) for name in ("cert", "key", "client_ca")
            )
            if certificate is None or key is None:
                missing = "cert_file" if certificate is None else "key_file"
                raise self._wrong(f"has a tls_server_config without {missing}")
            self._load_pair(context, certificate, key)
            self._demand_client(context, settings, authority)
        return context

    def _choose_ciphers(self, context: ssl.SSLContext, given: Any) -> None:
        """Those of TLS 1.2, the preferred one first."""
        if given is None or given == []:
            return
        if not isinstance(given, list):
            raise self._wrong("has cipher_suites that are not a list")
        for name in given:
            if not isinstance(name, str) or name not in {*CIPHERS, *_CIPHERS_OF_TLS13}:
                known = ", ".join(CIPHERS)
                raise self._wrong(f"has the cipher suite {_shown(name)}; known here: {known}")
        chosen = [CIPHERS[name] for name in given if name in CIPHERS]
        if chosen:
            context.set_ciphers(":".join(chosen))
        elif context.minimum_version is not ssl.TLSVersion.TLSv1_3:
            raise self._wrong("has cipher_suites of TLS 1.3 only, without min_version: TLS13")

    def _pem(self, settings: Mapping[str, Any], name: str, opened: ExitStack) -> Path | None:
        """Where ``NAME_file`` is, or a file in memory of what is given as ``NAME`` itself."""
        text, file = settings.get(name), settings.get(f"{name}_file")
        if text and file:
            raise self._wrong(f"has both {name} and {name}_file")
        if file:
            return self._readable(self._file(file))
        if not text:
            return None
        if not isinstance(text, str):
            raise self._wrong(f"has a {name} that is not text")
        return opened.enter_context(_in_memory(text))

    def _load_pair(self, context: ssl.SSLContext, certificate: Path, key: Path) -> None:
        try:
            context.load_cert_chain(certificate, key, password=self._no_password)
        except ssl.SSLError as error:
            raise self._wrong("has a certificate and a key that are not a pair in PEM") from error

    def _no_password(self) -> str:
        raise self._wrong("has a key that is encrypted, which nobody can enter here")

    def _demand_client(
        self, context: ssl.SSLContext, settings: Mapping[str, Any], authority: Path | None
    ) -> None:
        mode = self._choice(settings, "client_auth_type", "NoClientCert", _CLIENT_AUTH)
        if mode is not ssl.CERT_NONE and authority is None:
            raise self._wrong("asks for client certificates, but names no client_ca_file")
        if authority is None:
            return
        if mode is ssl.CERT_NONE:
            raise self._wrong("names a client_ca_file, but no client_auth_type that asks for one")
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError as error:
            raise self._wrong("has a client_ca_file without a certificate in PEM") from error
        context.verify_mode = mode

    def _users(self, given: Any) -> dict[str, bytes]:
        users = self._strings("basic_auth_users", given)
        for name, hashed in users.items():
            if ":" in name:
                raise self._wrong(f"has a user {name!r}; a name cannot have a colon")
            if not _BCRYPT.fullmatch(hashed):
                raise self._wrong(f"has no bcrypt hash for the user {name!r}")
        return {name: hashed.encode() for name, hashed in users.items()}

    def _file(self, name: Any) -> Path:
        if not isinstance(name, str) or not name.isprintable():
            raise self._wrong(f"names a file {_shown(name)}, which is no path")
        path = self._path.parent / name
        self._files[path] = signature(path)
        return path

    def _readable(self, path: Path) -> Path:
        try:
            path.read_bytes()
        except OSError as error:
            raise self._unreadable(path, error) from error
        return path

    def _choice(self, settings: Mapping[str, Any], name: str, default: str, among: Any) -> Any:
        value = settings.get(name) or default
        if not isinstance(value, str) or value not in among:
            raise self._wrong(f"has {name}: {_shown(value)}; known here: {', '.join(among)}")
        return among[value]

    def _switch(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool | None):
            raise self._wrong(f"has {name}: {_shown(value)}, which is neither true nor false")
        return bool(value)

    def _strings(self, name: str, given: Any, known: list[str] | None = None) -> dict[str, str]:
        found = self._mapping(name, given, known)
        for key, value in found.items():
            if not (isinstance(key, str) and isinstance(value, str) and value.isprintable()):
                raise self._wrong(f"has {name} {key!r}, which is not a line of text")
        return found

    def _mapping(
        self, name: str, given: Any, known: tuple[str, ...] | list[str] | None
    ) -> dict[str, Any]:
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise self._wrong(f"has {name} that is not a mapping")
        for key in given:
            if known is not None and key not in known:
                raise self._wrong(f"has {key!r}, unknown here; known: {', '.join(known)}")
        return given

    def _wrong(self, said: str) -> UsageError:
        return UsageError(f"The web configuration {self._path} {said}.", _DOCUMENTED)

    def _unreadable(self, path: Path, error: Exception) -> UsageError:
        why = (getattr(error, "strerror", None) or "it is not UTF-8 text").lower()
        return UsageError(
            f"{path} cannot be read: {why}.", f"It is part of the web configuration {self._path}."
        )


@contextmanager
def _in_memory(text: str) -> Iterator[Path]:
    """A file of *text* on no disk: Python's ssl takes a key from a file only."""
    with open(os.memfd_create("pem"), "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _shown(value: Any) -> str:
    """Aliases make a list or a mapping of any size from a few lines: it is only named."""
    if isinstance(value, list | dict | set):
        return "a list" if isinstance(value, list) else "a mapping"
    return printable(str(value))
