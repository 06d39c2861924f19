"""Who is connected, and who has to go where there is no more room.

One rule for all: of those who come from where most come from, the one goes that got on least
recently. So whoever floods displaces himself, and who asks and takes the answer is in nobody's way.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_MAPPED = bytes(10) + b"\xff\xff"
_NETWORK = 8  # bytes of an IPv6 address; whoever has one has all that begin so
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED in unix(7)


def origin(client: socket.socket, address: object) -> Hashable:
    """Whom a connection counts for: an IPv4 address, an IPv6 network, a user of this machine."""
    if client.family == socket.AF_UNIX:
        found = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(found)
        return f"user {user}"
    assert isinstance(address, tuple)
    host = str(address[0])
    if client.family != socket.AF_INET6:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return packed[:_NETWORK]


@dataclass(eq=False)
class Guest:
    """One connection. ``waits_for_us``: it did its part. ``takes``: the answer it is to take."""

    origin: Hashable
    dismiss: Callable[[], object]
    waits_for_us: bool = False
    takes: bytes = b""


class Crowd:
    """At most *most* guests, who keep us from dropping at most *bytes* of answers, or a few.

    To get on is to connect, to have sent a whole request, to take a part of the answer.
    """

    _FEW = 4

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._guests: set[Guest] = set()
        # Of each origin those who can be dismissed, who got on least recently first.
        self._lines: dict[Hashable, OrderedDict[Guest, None]] = {}
        self._takers: Counter[int] = Counter()  # of each answer, by its id()
        self._bytes = 0
        self.dismissed = 0

    def __len__(self) -> int:
        return len(self._guests)

    def __contains__(self, guest: Guest) -> bool:
        return guest in self._guests

    def has_room(self) -> bool:
        """Make room for one more; false where everybody waits for us."""
        while len(self._guests) >= self._most:
            if not self._dismiss_one(lambda _: True):
                return False
        return True

    def enter(self, guest: Guest) -> None:
        self._guests.add(guest)
        self._line(guest)[guest] = None

    def leave(self, guest: Guest) -> None:
        if guest in self._guests:
            self._guests.remove(guest)
            self._take(guest, b"")
            self._step_out(guest)

    def moved(self, guest: Guest) -> None:
        """*guest* got on."""
        if guest in self._guests and not guest.waits_for_us:
            self._line(guest).move_to_end(guest)

    def waits(self, guest: Guest) -> None:
        """It is our turn: *guest* is not dismissed until it takes its answer."""
        if guest in self._guests:
            guest.waits_for_us = True
            self._step_out(guest)

    def takes(self, guest: Guest, answer: bytes) -> None:
        """*guest* gets *answer*, of which those who have it already share one copy."""
        if guest not in self._guests:
            return
        guest.waits_for_us = False
        self._line(guest)[guest] = None
        self.moved(guest)
        self._take(guest, answer)
        while self._bytes > max(self._most_bytes, self._FEW * len(answer)):
            if not self._dismiss_one(lambda each: bool(each.takes) and each is not guest):
                return

    def served(self, guest: Guest) -> None:
        """Whoever has its answer is the first to go."""
        if guest in self._guests:
            self._take(guest, b"")
            self._line(guest).move_to_end(guest, last=False)

    def dismiss_all(self, *, but_those_we_owe: bool) -> None:
        for guest in list(self._guests):
            if not (but_those_we_owe and (guest.waits_for_us or guest.takes)):
                self._dismiss(guest)

    def _line(self, guest: Guest) -> OrderedDict[Guest, None]:
        return self._lines.setdefault(guest.origin, OrderedDict())

    def _step_out(self, guest: Guest) -> None:
        line = self._line(guest)
        line.pop(guest, None)
        if not line:
            del self._lines[guest.origin]

    def _take(self, guest: Guest, answer: bytes) -> None:
        before, guest.takes = guest.takes, answer
        if answer:
            self._takers[id(answer)] += 1
            if self._takers[id(answer)] == 1:
                self._bytes += len(answer)
        if before:
            self._takers[id(before)] -= 1
            if not self._takers[id(before)]:
                del self._takers[id(before)]
                self._bytes -= len(before)

    def _dismiss_one(self, may_go: Callable[[Guest], bool]) -> bool:
        for line in sorted(self._lines.values(), key=len, reverse=True):
            for guest in line:
                if may_go(guest):
                    self._dismiss(guest)
                    self.dismissed += 1
                    return True
        return False

    def _dismiss(self, guest: Guest) -> None:
        self.leave(guest)
        guest.dismiss()
