"""`pte-trace serve` on loopback, over a simulated kernel: its answers, its addresses, its end."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as plain_text

from pte_trace.cli import cli
from tests.integration.served import PATIENCE_S, Serve, Served, users

# What systemd does between fork and exec.
_HANDING_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_metrics_in_both_formats_and_compressed(serve: Serve) -> None:
    served = serve()
    answer, body = served.get()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert list(plain_text(body.decode()))
    answer, body = served.get(Accept="application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert list(open_metrics(body.decode()))  # type: ignore[no-untyped-call]
    answer, body = served.get(Accept_Encoding="br, gzip;q=0.5")
    assert answer.headers["Content-Encoding"] == "gzip"
    assert list(plain_text(gzip.decompress(body).decode()))
    assert "Content-Encoding" not in served.get(Accept_Encoding="gzip;q=0")[0].headers


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=one",
        "application/openmetrics-text;version=",
        "text/plain;version=9.9.9;escaping=no-such",
        ";;,,;=",
        "\xff",
    ],
)
def test_a_strange_wish_gets_the_metrics_too(serve: Serve, accept: str) -> None:
    answer, body = serve().get(Accept=accept)
    assert answer.status == 200
    assert b"pte_trace_write_faults_total" in body


def test_the_page_escapes_what_a_process_calls_itself(serve: Serve) -> None:
    answer, body = serve().get("/")
    page = body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.count("<script") == 1, "one, which is ours"
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page


def test_only_what_the_page_ships_runs_there(serve: Serve) -> None:
    answer, body = serve().get("/")
    policy = dict(
        each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; ")
    )
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", body.decode(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert not re.search(rb"\son\w+=|\sstyle=|https?://", body)


def test_other_pages_and_methods(serve: Serve) -> None:
    served = serve()
    assert served.status("/-/healthy") == served.status("/-/ready") == 200
    assert served.status("/metrics?name=x") == 200
    assert served.status("/favicon.ico") == served.status("/metrics/") == 404
    with closing(served.connection()) as connection:
        connection.request("POST", "/metrics", body=b"x" * 100_000)
        assert connection.getresponse().status == 405
    with closing(served.connection()) as connection:
        connection.request("HEAD", "/metrics")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")


def is_healthy(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        return client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A directory where anybody may do anything, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory


def test_ipv6_and_unix_sockets(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "s"
    served = serve("--listen", f"unix:{path}", address="[::1]:0")
    assert served.status() == 200
    served.heard(f"Listening on unix:{path}")
    assert is_healthy(path)
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    again = serve(address=f"unix:{path}")
    assert again.heard(f"Listening on unix:{path}")


def test_a_unix_socket_is_removed_where_that_is_allowed(serve: Serve, everybodys: Path) -> None:
    path = everybodys / "s"
    served = serve(address=f"unix:{path}")
    served.heard("Listening")
    assert is_healthy(path)
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    assert not path.exists()


def test_a_service_manager_hands_over_a_socket_and_is_told(serve: Serve, everybodys: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path = everybodys / "notify"
    manager.bind(str(path))
    path.chmod(0o777)
    manager.settimeout(PATIENCE_S)
    with listener, manager:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _HANDING_OVER, str(listener.fileno())),
                *("-m", "tests.simulated", "serve"),
            ],
            pass_fds=[listener.fileno()],
            env={**os.environ, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert manager.recv(100) == b"READY=1"
            served = Served(process)
            assert served.address == listener.getsockname()
            assert served.status() == 200
            process.terminate()
            assert manager.recv(100) == b"STOPPING=1"
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(serve: Serve, number: signal.Signals) -> None:
    served = serve()
    assert served.status() == 200
    served.process.send_signal(number)
    assert served.process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--listen", "nowhere"], 2, "nowhere is not an address"),
        (["--listen", "unix:/no/such/s"], 3, "cannot be listened on: no such file"),
        (["--web-config", "/no/web.yml"], 2, "/no/web.yml cannot be read"),
        (["--label", "a b=c"], 2, "a b is not a name for a label"),
        (["--label", "__x=c"], 2, "__x is not a name"),
        (["--label", "outcome=c"], 2, "outcome has a meaning of its own"),
        (["--label", "team"], 2, "has no value"),
        (["--label", "t=1", "--label", "t=2"], 2, "given twice"),
        (["--top-mappings", "-1"], 2, "--top-mappings"),
        (["-p", "999999999"], 2, "no process"),
    ],
)
def test_bad_input_is_a_sentence(
    serve: Serve, arguments: list[str], status: int, said: str
) -> None:
    served = serve(*arguments)
    _, errors = served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == status
    assert said in errors
    assert "Traceback" not in errors
    assert len(errors.splitlines()) <= 4


def test_a_port_in_use(serve: Serve) -> None:
    host, port = serve().address
    second = serve(address=f"{host}:{port}")
    _, errors = second.process.communicate(timeout=PATIENCE_S)
    assert second.process.returncode == 3
    assert f"{host}:{port} cannot be listened on: address already in use." in errors


def test_other_commands_do_not_load_the_exporter() -> None:
    script = (
        "import sys; from pte_trace.cli import cli; cli.get_command(None, 'run');"
        " print([name for name in sys.modules if name.startswith(('prometheus', 'h11',"
        " 'jinja2', 'bcrypt', 'yaml'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert "serve" in cli.list_commands(None)  # type: ignore[arg-type]


def checked(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulated", "serve", "--check", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, done.stderr


def test_what_can_be_served_is_checked_beside_one_that_serves(serve: Serve, tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text(users())
    host, port = serve().address
    address = f"{host}:{port}"
    status, said = checked("--listen", address, "--web-config", config, "--label", "a=b")
    assert (status, said) == (0, "pte-trace: It can be served so.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--listen", "nowhere"), "is not an address to listen on"),
        (("--listen", "unix:"), "names no path"),
        (("--label", "1=2"), "label"),
        (("--web-config", "/nonexistent/web.yml"), "/nonexistent/web.yml"),
    ],
)
def test_what_cannot_be_served_is_said_by_the_check(arguments: tuple[str, ...], said: str) -> None:
    status, complaint = checked(*arguments)
    assert status == 2
    assert said in complaint
