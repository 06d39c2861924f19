"""Who may look: HTTP basic authentication against bcrypt hashes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import bcrypt

_REMEMBERED = 128
_MOST_WAITING = 32
# A password is cut there by every bcrypt; the library refuses longer ones.
_LONGEST = 72


class TooBusyError(Exception):
    """More passwords are to be checked than there is time for."""


class Access:
    """Checks passwords one at a time: a hash is slow by design, and we are a guest here.

    A password that was right is remembered by a digest, so that who knows one need not wait.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._users = users
        self._checker = ThreadPoolExecutor(1, "passwords")
        self._waiting = 0
        self._secret = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        # What is compared for a user there is not, so that the answer takes as long.
        self._nobody = next(iter(users.values()), b"")

    async def granted(self, authorization: bytes | None) -> bool:
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
        if self._waiting >= _MOST_WAITING:
            raise TooBusyError
        self._waiting += 1
        try:
            hashed = self._users.get(name.decode("utf-8", "replace"))
            loop = asyncio.get_running_loop()
            matches = await loop.run_in_executor(
                self._checker, bcrypt.checkpw, password[:_LONGEST], hashed or self._nobody
            )
        finally:
            self._waiting -= 1
        if hashed is None or not matches:
            return False
        self._right[digest] = None
        if len(self._right) > _REMEMBERED:
            self._right.popitem(last=False)
        return True

    def close(self) -> None:
        self._checker.shutdown(wait=False, cancel_futures=True)


def _credentials(authorization: bytes | None) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return (name, password) if colon else None
