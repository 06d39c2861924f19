"""The sockets to listen on: addresses that were asked for, and what systemd hands over."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pte_trace.errors import HostError, UsageError

DEFAULT = "127.0.0.1:9818"

_FIRST_PASSED_FD = 3
# To connect is to write. Whose group it is: in a directory with the setgid bit, the directory's.
_UNIX_MODE = 0o660
_FORMS = f"Give HOST:PORT as {DEFAULT} or [::1]:9818, or unix:PATH."
_HIGHEST_PORT = 65535
# They wait for each other, whoever they are. Where it is full a client's kernel tries again after a
# second: that is what slows down whoever connects faster than we can accept.
_BACKLOG = 512
# Bytes for each client that the kernel keeps at most, of twice as much: it would grow to megabytes.
_KERNEL_KEEPS = {socket.SO_RCVBUF: 64 << 10, socket.SO_SNDBUF: 256 << 10}


# As getaddrinfo() has it.
_Found = tuple[int, int, int, str, tuple[Any, ...]]


def open_sockets(addresses: Iterable[str]) -> list[socket.socket]:
    """Bound sockets for *addresses*; a name that has several addresses gets several.

    Raises UsageError for what is no address, HostError where it cannot be listened on.
    """
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            is_unix = address.startswith("unix:")
            opened += [_unix(_path(address))] if is_unix else _tcp(address)
    except BaseException:
        _close(opened)
        raise
    return opened


def check(addresses: Iterable[str]) -> None:
    """Whether *addresses* are such; nothing is opened. Raises UsageError."""
    for address in addresses:
        if address.startswith("unix:"):
            _path(address)
        else:
            _found(address)


def passed_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets of systemd's socket activation, see sd_listen_fds(3). Takes them once."""
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    passed = []
    for fd in range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + int(count)):
        os.set_inheritable(fd, False)
        passed.append(socket.socket(fileno=fd))
    return passed


@contextmanager
def listening(
    addresses: Iterable[str], passed: Iterable[socket.socket]
) -> Iterator[tuple[socket.socket, ...]]:
    """*addresses* opened, and *passed*; closed at the end, the files of Unix sockets removed.

    One that may not be removed any more stays, and is replaced at the next start. Raises what
    `open_sockets` does.
    """
    opened = open_sockets(addresses)
    try:
        yield (*passed, *opened)
    finally:
        for each in opened:
            if each.family == socket.AF_UNIX:
                with suppress(OSError):
                    Path(each.getsockname()).unlink()
        _close(opened)


def _close(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()


def url(listener: socket.socket, *, tls: bool) -> str:
    """Where a person finds it."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    return f"{'https' if tls else 'http'}://{shown}:{port}/"


def _path(address: str) -> str:
    path = address.removeprefix("unix:")
    if not path:
        raise UsageError("unix: names no path to listen on.", _FORMS)
    return path


def _found(address: str) -> list[_Found]:
    """Where it is, by each of the addresses that a name has. Raises UsageError."""
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not re.fullmatch(r"[0-9]{1,5}", port)
        or int(port) > _HIGHEST_PORT
        or (":" in host and not bracketed)
    ):
        raise UsageError(f"{address} is not an address to listen on.", _FORMS)
    host = host[1:-1] if bracketed else host
    try:
        return list(
            socket.getaddrinfo(
                host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"There is no host {host}.", _FORMS) from error


def _tcp(address: str) -> list[socket.socket]:
    found = _found(address)
    opened: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in found:
            try:
                opened.append(socket.socket(family, kind, protocol))
            except OSError as error:
                # A kernel without IPv6: its other addresses will do, where there are any.
                if error.errno != errno.EAFNOSUPPORT or len({each[0] for each in found}) == 1:
                    raise
                continue
            opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                opened[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for name, size in _KERNEL_KEEPS.items():
                opened[-1].setsockopt(socket.SOL_SOCKET, name, size)
            opened[-1].bind(where)
            opened[-1].listen(_BACKLOG)
    except OSError as error:
        _close(opened)
        raise _refused(address, error) from error
    return opened


def _unix(path: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX)
    try:
        _remove_stale(path)
        with _mode(_UNIX_MODE):
            opened.bind(path)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise _refused(f"unix:{path}", error) from error
    return opened


@contextmanager
def _mode(mode: int) -> Iterator[None]:
    """What is made has this mode from the beginning. Call it before there are threads."""
    before = os.umask(0o777 & ~mode)
    try:
        yield
    finally:
        os.umask(before)


def _remove_stale(path: str) -> None:
    """Remove the socket that an exporter left behind which was killed."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as trial:
        trial.setblocking(False)
        try:
            trial.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            return  # somebody listens, and is busy


def _refused(address: str, error: OSError) -> HostError:
    return HostError(
        f"{address} cannot be listened on: {(error.strerror or str(error)).lower()}.",
        "Give another with --listen; `ss -ltnp` and `ss -lxnp` show who listens where.",
    )
