"""Nothing that a client did makes it end, or end otherwise."""

from __future__ import annotations

import time
from pathlib import Path

from tests.attack import attacks
from tests.attack.conftest import Forts


def test_a_broken_record_before_a_reload_and_the_end(fort: Forts, tmp_path: Path) -> None:
    besieged = fort(tls=True)
    before = besieged.scrape("127.0.0.1")[1]
    attacks.a_broken_record(besieged)
    path = tmp_path / "web.yml"
    path.write_text(path.read_text() + "http_server_config: {http2: true}\n")
    besieged.heard("was read again")
    status, after = besieged.scrape("127.0.0.1")
    assert status == 200
    assert len(after) >= len(before) // 2
    attacks.a_broken_record(besieged)
    besieged.end()


def test_it_ends_in_the_midst_of_everything(fort: Forts) -> None:
    besieged = fort()
    clients = [besieged.connected() for _ in range(100)]
    for client, sent in zip(clients, attacks.SENT.values(), strict=False):
        client.settimeout(0.2)
        client.sendall(sent)
    begun = time.monotonic()
    besieged.end()
    assert time.monotonic() - begun < 8
    for client in clients:
        client.close()
