"""Who connects is let in, served and seen out: as many at once as there is room for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import struct
from collections.abc import Callable, Sequence

from pte_trace.exporter import memory
from pte_trace.exporter.app import App
from pte_trace.exporter.channel import Channel, TlsChannel
from pte_trace.exporter.complaints import Complaints, Wrong
from pte_trace.exporter.connection import Connection, NoHttpError
from pte_trace.exporter.crowd import Crowd, Guest, origin

# More than these at once is no monitoring.
_MOST = 256
_FEWEST = 8
# Files that we open ourselves meanwhile, and connections that are closed a moment later.
_SPARE_FILES = 64
_AT_ONCE = 32
_A_CROWD = 32
_MOST_BYTES = 32 << 20
_AGAIN_S = 0.25
_ENDING_S = 3.0
# What has not got through by then is given up by the kernel too.
_KERNEL_KEEPS_MS = 10_000
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER in socket(7)
_GONE = (asyncio.CancelledError, ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Visits:
    """Accepts on *listeners* until `end`; *app* is asked who answers now."""

    def __init__(
        self, listeners: Sequence[socket.socket], app: Callable[[], App], complaints: Complaints
    ) -> None:
        self._listeners = listeners
        self._app = app
        self._complaints = complaints
        self._crowd = Crowd(_room(), _MOST_BYTES)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._open = self._ended = self._a_crowd = False
        for listener in listeners:
            listener.setblocking(False)

    def begin(self) -> None:
        if self._ended or self._open:
            return
        self._open = True
        for listener in self._listeners:
            self._loop.add_reader(listener, self._accept, listener)

    async def end(self) -> None:
        """Let nobody in; whoever is being answered has a moment more."""
        self._ended = True
        self._pause()
        self._crowd.dismiss_all(but_those_we_owe=True)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_ENDING_S)
        self._crowd.dismiss_all(but_those_we_owe=False)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _pause(self) -> None:
        self._open = False
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        let_in = 0
        for _ in range(_MOST):
            if let_in == _AT_ONCE:
                return
            before = self._crowd.dismissed
            if not self._crowd.has_room():
                self._pause()  # until one of them was answered
                return
            if self._crowd.dismissed > before:
                self._complaints.hear(Wrong.CROWD)
            try:
                client, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._complaints.hear(Wrong.NO_FILE, (error.strerror or "").lower())
                self._pause()
                self._loop.call_later(_AGAIN_S, self.begin)
                return
            client.setblocking(False)
            if _gone(client):
                client.close()
            else:
                self._let_in(client, address)
                let_in += 1

    def _let_in(self, client: socket.socket, address: object) -> None:
        try:
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _KERNEL_KEEPS_MS)
            guest = Guest(origin(client, address), lambda: task.cancel())
        except OSError:
            client.close()
            return
        self._crowd.enter(guest)
        task = self._loop.create_task(self._receive(client, guest))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._see_out(task, client, guest))

    def _see_out(self, task: asyncio.Task[None], client: socket.socket, guest: Guest) -> None:
        self._tasks.discard(task)
        self._crowd.leave(guest)
        client.close()
        self._a_crowd = self._a_crowd or len(self._tasks) > _A_CROWD
        if self._a_crowd and not self._tasks:
            self._a_crowd = False
            memory.give_back()
        self.begin()

    async def _receive(self, client: socket.socket, guest: Guest) -> None:
        """Nothing that a client does leaves this."""
        tls = self._app().tls
        try:
            channel = TlsChannel(client, tls) if tls else Channel(client)
            await Connection(channel, guest, self._crowd, self._app).serve()
        except NoHttpError as error:
            self._complaints.hear(Wrong.NO_HTTP, str(error))
        except (Exception, asyncio.CancelledError) as error:
            _forget_where(error)
            _drop(client)
            self._hear(error, guest)

    def _hear(self, error: BaseException, guest: Guest) -> None:
        if isinstance(error, TimeoutError):
            self._complaints.hear(Wrong.OURS if guest.waits_for_us else Wrong.SLOW)
        elif isinstance(error, ssl.SSLError) and not isinstance(error, _GONE):
            self._complaints.hear(Wrong.NO_TLS, f"{error.reason or error}")
        elif not isinstance(error, _GONE):
            self._complaints.hear(Wrong.OURS, f"{type(error).__name__}: {error}")


def _gone(client: socket.socket) -> bool:
    """Whether nothing will come of it: it ended before it said anything."""
    try:
        return not client.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _room() -> int:
    """How many connections the limit of open files leaves room for."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = limit - len(os.listdir("/proc/self/fd")) - _SPARE_FILES
    return max(_FEWEST, min(_MOST, left))


def _forget_where(error: BaseException | None) -> None:
    """The frames that it came through keep all of a connection, and asyncio's futures keep it.

    That is a circle, which Python would find some other time.
    """
    while error:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _drop(client: socket.socket) -> None:
    """Close it at once: what it did not take is not kept for it by the kernel either."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
