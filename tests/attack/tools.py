"""The same by tools that others wrote: `make attack`, which installs them.

Not part of the ordinary run, which they would make minutes longer.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.attack.conftest import Forts
from tests.attack.siege import Fort, watched

_LONGEST_S = 280


def url(fort: Fort, page: str = "/metrics") -> str:
    host, port = fort.address
    return f"{'https' if fort.tls else 'http'}://{host}:{port}{page}"


def run(*command: object, given: str = "", statuses: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(
        [*map(str, command)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    assert done.returncode in statuses, done.stdout
    print(done.stdout)
    return done.stdout


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_h2load_by_http_1(fort: Forts, tls: bool) -> None:
    """100 clients who ask without a pause; each connection is good for one request."""
    besieged = fort(tls=tls)
    with watched(besieged):
        said = run("h2load", "--h1", "-n", 3000, "-c", 100, "-T", 10, url(besieged))
    assert int(re.findall(r"status codes: (\d+) 2xx", said)[0]) >= 100
    besieged.end()


@pytest.mark.parametrize("window", [1, 16])
def test_h2load_by_http_2_in_clear(fort: Forts, window: int) -> None:
    """Three connections of 100 streams, whose windows are small: no HTTP/2 is spoken."""
    besieged = fort()
    with watched(besieged):
        said = run(
            *("h2load", "-n", 3000, "-c", 3, "-m", 100, "-w", window, "-W", window, "-T", 5),
            url(besieged),
        )
    assert "status codes: 0 2xx" in said
    besieged.end()


def test_h2load_by_tls(fort: Forts) -> None:
    """It asks for HTTP/2 first, and is given HTTP/1.1."""
    besieged = fort(tls=True)
    with watched(besieged):
        said = run("h2load", "-n", 1000, "-c", 50, "-m", 100, "-T", 10, url(besieged))
    assert "Application protocol: http/1.1" in said
    besieged.end()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "how",
    [
        ("-H", "-i", 2),  # heads that come slowly
        ("-B", "-i", 2, "-s", 8192),  # bodies
        ("-R", "-a", 1, "-b", 3000),  # many ranges
        ("-X", "-n", 3, "-w", 1, "-y", 2, "-z", 1, "-k", 3),  # answers that are read slowly
    ],
    ids=["head", "body", "range", "read"],
)
def test_slowhttptest(fort: Forts, how: tuple[object, ...], tls: bool) -> None:
    besieged = fort(tls=tls)
    with watched(besieged):
        run(
            *("slowhttptest", *how, "-c", 500, "-r", 200, "-l", 15, "-p", 3, "-t", "GET"),
            *("-u", url(besieged)),
        )
    besieged.end()


def test_openssl_may_not_negotiate_again(fort: Forts) -> None:
    besieged = fort(tls=True)
    with watched(besieged):
        said = run(
            *("openssl", "s_client", "-tls1_2", "-connect", "{}:{}".format(*besieged.address)),
            given="R\n" * 20,
            statuses=(0, 1),
        )
    assert "RENEGOTIATING" in said
    assert "no renegotiation" in said
    besieged.end()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_that_does_nothing_but_handshakes(fort: Forts, version: str) -> None:
    besieged = fort(tls=True)
    with watched(besieged):
        run(
            *("openssl", "s_time", "-new", "-time", 5, version),
            *("-connect", "{}:{}".format(*besieged.address)),
        )
    besieged.end()


def test_testssl_finds_nothing_grave(fort: Forts, tmp_path: Path) -> None:
    """But that nobody knows the authority, and that answers are compressed if one asks for it."""
    besieged = fort(tls=True)
    found = tmp_path / "found.json"
    with watched(besieged):
        run(
            *("testssl", "--quiet", "--color", 0, "--warnings", "off", "--jsonfile", found),
            *("--protocols", "--std", "--fs", "--server-defaults", "--vulnerable"),
            url(besieged, ""),
            statuses=tuple(range(100)),
        )
    findings = json.loads(found.read_text())
    assert len(findings) > 40
    grave = {
        finding["id"]: finding["finding"]
        for finding in findings
        if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
    }
    allowed = re.compile(r"cert_.*|BREACH|.*scan.*")
    assert {name for name in grave if not allowed.fullmatch(name)} == set(), grave
    besieged.end()
