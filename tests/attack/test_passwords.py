"""Who guesses passwords keeps nobody out who knows one, and learns nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import bcrypt

from tests.attack.conftest import Forts
from tests.attack.siege import IN_TIME_S, Fort
from tests.integration.served import PASSWORD, basic

_GUESSERS = 40
_COST = 10


def users(**costs: int) -> str:
    hashes = {
        name: bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode()
        for name, cost in costs.items()
    }
    return "basic_auth_users: " + json.dumps(hashes)


@contextmanager
def guessing(fort: Fort, origin: str) -> Iterator[None]:
    """Many guess, each as fast as it is told no."""
    over = threading.Event()

    def guess(number: int) -> None:
        guesses = 0
        while not over.is_set():
            guesses += 1
            with suppress(OSError), fort.connected(origin) as client:
                known = basic(f"user{number}" if number % 2 else "ann", f"{number}.{guesses}")
                client.sendall(
                    b"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: "
                    + known.encode()
                    + b"\r\n\r\n"
                )
                client.recv(1000)

    threads = [threading.Thread(target=guess, args=(each,)) for each in range(_GUESSERS)]
    for each in threads:
        each.start()
    time.sleep(2)
    try:
        yield
    finally:
        over.set()
        for each in threads:
            each.join()


def test_who_knows_one_is_let_in_among_those_who_guess(fort: Forts, tmp_path: Path) -> None:
    besieged = fort(config=users(ann=_COST, bob=_COST))
    with guessing(besieged, "127.0.0.1"):
        besieged.headers = {"Authorization": basic("ann", PASSWORD)}
        assert besieged.scrape("127.0.0.2")[0] == 200
        # From where the guesses come, as one of them until it is known.
        besieged.headers = {"Authorization": basic("bob", PASSWORD)}
        assert besieged.scrape("127.0.0.1", 10)[0] == 200
        # What was right is right after the file was read again.
        path = tmp_path / "web.yml"
        path.write_text(path.read_text() + "http_server_config: {http2: false}\n")
        besieged.heard("was read again")
        for name in ("ann", "bob"):
            besieged.headers = {"Authorization": basic(name, PASSWORD)}
            begun = time.monotonic()
            assert besieged.scrape("127.0.0.1")[0] == 200
            assert time.monotonic() - begun < IN_TIME_S / 2
    besieged.end()


def test_a_password_that_was_revoked_is_wrong_at_once(fort: Forts, tmp_path: Path) -> None:
    besieged = fort(config=users(ann=4))
    besieged.headers = {"Authorization": basic("ann", PASSWORD)}
    assert besieged.scrape("127.0.0.1")[0] == 200
    (tmp_path / "web.yml").write_text(users(bob=4))
    besieged.heard("was read again")
    assert besieged.scrape("127.0.0.1")[0] == 401
    besieged.end()


def test_how_long_a_no_takes_says_nothing(fort: Forts) -> None:
    """Of a user with a cheap hash, one with a dear one, and one that is not there."""
    besieged = fort(config=users(cheap=5, dear=9))
    took: dict[str, list[float]] = {"cheap": [], "dear": [], "nobody": []}
    # The shortest of many: what else the machine does only makes a time longer.
    for number in range(25):
        for position, name in enumerate(took):
            besieged.headers = {"Authorization": basic(name, f"wrong {number}")}
            # Another origin each: too many wrong ones from one are answered later.
            origin = f"127.0.{number + 1}.{position + 1}"
            begun = time.monotonic()
            assert besieged.scrape(origin)[0] == 401
            took[name].append(time.monotonic() - begun)
    shortest = {name: min(each) for name, each in took.items()}
    assert max(shortest.values()) < 1.5 * min(shortest.values()), shortest
    besieged.end()
