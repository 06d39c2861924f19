"""`python -m tests.attack HOST PORT`: every attack in clear, over and over, until it is ended."""

from __future__ import annotations

import functools
import itertools
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.attack import attacks
from tests.attack.attacks import Target


@dataclass
class Address:
    """Where to, of an exporter that somebody else started."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    def connected(self, origin: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((self.host, self.port), 30, (origin, 0))


ALL: tuple[Callable[[Target], None], ...] = (
    *(functools.partial(attacks.send_and_hold, kinds=(sent,)) for sent in attacks.SENT.values()),
    *attacks.OTHERS,
)


def main() -> None:
    target = Address(sys.argv[1], int(sys.argv[2]))
    for attack in itertools.cycle(ALL):
        attack(target)


if __name__ == "__main__":
    main()
