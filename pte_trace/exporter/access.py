"""Who may look: HTTP basic authentication against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from pte_trace.exporter.turns import Turns

_REMEMBERED = 128
_LINE = 8
# A password is cut there by every bcrypt; the library refuses longer ones.
_LONGEST = 72
# Whoever was wrong more often than this of late is told so later: who guesses, waits.
_FREE_GUESSES = 10
_OF_LATE_S = 60.0
_DELAY_S = 5.0
_GUESSERS = 1024
_LOWEST = 4  # cost that bcrypt knows
# A salt like any other, for what is hashed to take the time.
_SALT = b"$2b$%02d$......................"


class TooBusyError(Exception):
    """More passwords are to be checked than there is time for."""


class Access:
    """Checks passwords one at a time: a hash is slow by design, and we are a guest here.

    A password that was right is remembered by a digest, for as long as its user's hash stays, so
    that who knows one need not wait. Others wait with those from the same origin, and origins take
    turns. *guessing* hears of each answer that is delayed.
    """

    def __init__(
        self,
        guessing: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users: Mapping[str, bytes] = {}
        self._guessing = guessing
        self._checker = ThreadPoolExecutor(1, "passwords")
        self._turns = Turns(_LINE)
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, tuple[str, bytes]] = OrderedDict()
        self._wrong = Failures(now)

    def use(self, users: Mapping[str, bytes]) -> None:
        """Ask for the passwords of these *users* from now on, by their hashes."""
        self._users = users
        for digest, (name, hashed) in list(self._right.items()):
            if users.get(name) != hashed:
                del self._right[digest]

    async def granted(self, authorization: bytes | None, origin: Hashable) -> bool:
        """Whether the request with this header may pass. Raises TooBusyError."""
        if not self._users:
            return True
        given = _credentials(authorization)
        if given is None:
            return False
        name, password = given
        digest = hashlib.blake2b(name + b":" + password, key=self._secret).digest()
        if digest in self._right:
            self._right.move_to_end(digest)
            return True
        try:
            right = await self._check(name.decode("utf-8", "replace"), password, digest, origin)
        except TooBusyError:
            await self._delay(origin)
            raise
        if not right:
            await self._delay(origin)
        return right

    def close(self) -> None:
        self._checker.shutdown(wait=False, cancel_futures=True)

    async def _check(self, name: str, password: bytes, digest: bytes, origin: Hashable) -> bool:
        if not await self._turns.begin(origin):
            raise TooBusyError
        try:
            users = self._users
            hashed = users.get(name)
            highest = max(map(_cost, users.values()), default=_LOWEST)
            right = await asyncio.get_running_loop().run_in_executor(
                self._checker, _matches, password[:_LONGEST], hashed, highest
            )
        finally:
            self._turns.end()
        if not right or hashed is None or self._users.get(name) != hashed:
            return False
        self._right[digest] = (name, hashed)
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    async def _delay(self, origin: Hashable) -> None:
        if self._wrong.one_more(origin) > _FREE_GUESSES:
            self._guessing()
            await asyncio.sleep(_DELAY_S)


class Failures:
    """How often each of the last _GUESSERS origins failed within _OF_LATE_S of its first."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._of: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def one_more(self, origin: Hashable) -> int:
        now = self._now()
        since, failed = self._of.pop(origin, (now, 0))
        if now - since >= _OF_LATE_S:
            since, failed = now, 0
        self._of[origin] = since, failed + 1
        if len(self._of) > _GUESSERS:
            self._of.popitem(last=False)
        return failed + 1


def _cost(hashed: bytes) -> int:
    return int(hashed.split(b"$")[2])


def _matches(password: bytes, hashed: bytes | None, highest: int) -> bool:
    """A no takes as long as a hash of the *highest* cost, whoever it is for.

    One of cost n takes 2^n rounds, so those from n to below *highest* are what it takes less.
    """
    if b"\0" in password:
        return False
    if hashed is None:
        bcrypt.hashpw(password, _SALT % highest)
        return False
    if bcrypt.checkpw(password, hashed):
        return True
    for cost in range(_cost(hashed), highest):
        bcrypt.hashpw(password, _SALT % cost)
    return False


def _credentials(authorization: bytes | None) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None
