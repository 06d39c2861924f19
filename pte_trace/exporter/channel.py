"""Bytes to and from one client, in clear or by TLS.

Over the socket itself: asyncio's transports would take a client's TLS handshake out of our hands
(it is not known of, bounded or ended until it succeeds), take its farewell for the end of both
directions, and keep 256 KiB for each.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

# Bytes at a time: each client may have as many of our memory, and some of them twice.
_RECEIVED = 1 << 12
PART = 1 << 14  # of what is sent: a record of TLS
_DISCARDED = bytearray(1 << 16)  # by all: nobody reads it

Result = TypeVar("Result")


class Channel:
    """In clear. Raises OSError where the client is gone; ends by being cancelled."""

    def __init__(self, client: socket.socket) -> None:
        self._socket = client
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """What comes before the first byte. Raises ssl.SSLError."""

    async def receive(self) -> bytes:
        """What came; nothing where nothing will come any more."""
        return await self._loop.sock_recv(self._socket, _RECEIVED)

    async def send(self, data: bytes | memoryview) -> None:
        """Returns when the kernel has taken all of it."""
        await self._loop.sock_sendall(self._socket, data)

    async def end(self) -> None:
        """Nothing more will be sent."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def discard(self) -> int:
        """Take what came, unread: how many bytes, 0 where nothing will come any more."""
        return await self._loop.sock_recv_into(self._socket, _DISCARDED)


class TlsChannel(Channel):
    """By TLS. Raises ssl.SSLError too."""

    def __init__(self, client: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(client)
        self._came, self._to_go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._to_go, server_side=True)

    async def open(self) -> None:
        await self._done(self._tls.do_handshake)

    async def receive(self) -> bytes:
        try:
            return await self._done(lambda: self._tls.read(_RECEIVED))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def send(self, data: bytes | memoryview) -> None:
        await self._done(lambda: self._tls.write(data))

    async def end(self) -> None:
        # Its first half: the client's farewell is not waited for.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        with suppress(OSError):
            await self._flush()
        await super().end()

    async def _done(self, step: Callable[[], Result]) -> Result:
        """What *step* gives, once enough has come for it."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                await self._flush()
                if came := await super().receive():
                    self._came.write(came)
                else:
                    self._came.write_eof()
            except ssl.SSLError:
                await self._flush()  # An alert says what is wrong.
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if self._to_go.pending:
            await super().send(self._to_go.read())
