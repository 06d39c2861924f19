"""Addresses to listen on, and those that cannot be."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from pte_trace.errors import HostError, PteTraceError, UsageError
from pte_trace.exporter.listen import listening, open_sockets, passed_sockets, url
from pte_trace.kernel.rights import NOBODY


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0"])
def test_it_can_be_connected_to(address: str) -> None:
    for opened in open_sockets([address]):
        with closing(opened), socket.socket(opened.family) as client:
            client.connect(opened.getsockname())


def test_a_person_is_told_where() -> None:
    with listening(["127.0.0.1:0", "[::1]:0"], []) as (four, six):
        assert url(four, tls=False) == f"http://127.0.0.1:{four.getsockname()[1]}/"
        assert url(six, tls=True) == f"https://[::1]:{six.getsockname()[1]}/"


@pytest.mark.parametrize(
    "address",
    [
        *("", "9818", "localhost", "localhost:", "localhost:http", "127.0.0.1:65536"),
        *("127.0.0.1:-1", "::1:9818", "[::1]9818", "256.1.1.1:80", "a b:80", "é..x:80"),
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        open_sockets([address])


def test_a_port_in_use_is_refused() -> None:
    with closing(open_sockets(["127.0.0.1:0"])[0]) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"127.0.0.1:{port} cannot be listened on: address"):
            open_sockets([f"127.0.0.1:{port}"])


def test_a_unix_socket_goes_with_us(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening([f"unix:{path}"], []) as (opened,), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert url(opened, tls=False) == f"unix:{path}"
        with pytest.raises(HostError):
            open_sockets([f"unix:{path}"])
    assert not path.exists()


def test_the_group_may_connect_to_a_unix_socket_and_others_may_not(tmp_path: Path) -> None:
    if not os.geteuid():
        os.chown(tmp_path, -1, NOBODY)
    tmp_path.chmod(0o2750)
    path = tmp_path / "s"
    with listening([f"unix:{path}"], []):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == tmp_path.stat().st_gid


def test_a_unix_socket_has_its_mode_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the umask is; and it is not changed by a name that may be another's by then."""
    modes = []

    class Seen(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            modes.append(stat.S_IMODE(os.stat(address).st_mode))

    monkeypatch.setattr(socket, "socket", Seen)
    monkeypatch.setattr(os, "chmod", None)
    for umask in (0, 0o077, 0o777):
        before = os.umask(umask)
        try:
            with listening([f"unix:{tmp_path / 's'}"], []):
                assert os.umask(umask) == umask
        finally:
            os.umask(before)
    assert modes == [0o660] * 3


@pytest.mark.timeout(20)
def test_one_who_listens_but_is_busy_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with ExitStack() as opened:
        busy = opened.enter_context(socket.socket(socket.AF_UNIX))
        busy.bind(str(path))
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                client = opened.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        with pytest.raises(HostError, match="cannot be listened on: address already in use"):
            open_sockets([f"unix:{path}"])
    assert path.exists()


def test_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    with listening([f"unix:{path}"], []):
        pass


def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(HostError):
        open_sockets([f"unix:{path}"])
    assert path.read_text() == "data"


@pytest.mark.parametrize("path", ["", "/no/such/directory/s", "x" * 200])
def test_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(PteTraceError):
        open_sockets([f"unix:{path}"])


@pytest.mark.parametrize("pid", ["", "1", "many"])
def test_sockets_for_another_process_are_left_alone(pid: str) -> None:
    assert passed_sockets({"LISTEN_FDS": "1", "LISTEN_PID": pid}) == []


def test_no_sockets_were_passed() -> None:
    environ = {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid()), "PATH": "/bin"}
    assert passed_sockets(environ) == []
    assert environ == {"PATH": "/bin"}


class WithoutIPv6(socket.socket):
    def __init__(self, family: int = -1, *arguments: Any, **named: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        super().__init__(family, *arguments, **named)


def test_a_kernel_without_ipv6_listens_on_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    with listening([":0"], ()) as (only,):
        assert only.family == socket.AF_INET
    with pytest.raises(HostError, match="address family not supported"):
        open_sockets(["[::1]:0"])
