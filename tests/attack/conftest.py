"""An exporter to attack, with few files that it may open."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.attack.siege import BACK_S, Fort, start

_FILES = 256
Forts = Callable[..., Fort]


@pytest.fixture
def fort(tmp_path: Path) -> Iterator[Forts]:
    """Starts one with these options; *tls* by a certificate, *config*: more of the web config."""
    started: list[Fort] = []

    def begin(*options: object, tls: bool = False, config: str = "", files: int = _FILES) -> Fort:
        settings = [f"{config}\n"]
        trusting = None
        if tls:
            authority = trustme.CA()
            leaf = authority.issue_cert("127.0.0.1")
            leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
            pair = {"cert_file": "both.pem", "key_file": "both.pem"}
            settings.append(f"tls_server_config: {json.dumps(pair)}\n")
            trusting = ssl.create_default_context()
            authority.configure_trust(trusting)
        path = tmp_path / "web.yml"
        path.write_text("".join(settings))
        made = start(
            tmp_path / f"log{len(started)}",
            *("prlimit", f"--nofile={files}", sys.executable, "-m", "tests.simulated", "serve"),
            *("--listen", "127.0.0.1:0", *(("--web-config", path) if tls or config else ())),
            *options,
        )
        made.tls = trusting
        started.append(made)
        made.heard("Listening")
        made.scrape("127.0.0.1", BACK_S)  # All is open now that will be.
        return made

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()
