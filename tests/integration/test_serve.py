"""`pte-trace serve` on loopback, over a simulated kernel: what it answers, and to whom."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import bcrypt
import pytest
import trustme
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as plain_text

from pte_trace.cli import cli
from pte_trace.exporter.reader import FRESH_S
from pte_trace.exporter.rights import NOBODY
from tests.simulated import RECORDS
from tests.sockets import reset_at_close

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
CAP_BPF, CAP_DAC_READ_SEARCH = 1 << 39, 1 << 2
PASSWORD = "correct horse"
PATIENCE_S = 30


@dataclass
class Served:
    """A running exporter: what it said so far, and how to ask it."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.heard("Listening on http").rstrip("/").rpartition(":")
        return host.rpartition("//")[2].strip("[]"), int(port)

    def heard(self, sentence: str) -> str:
        """The line with *sentence*; read on until it comes."""
        for line in self.said:
            if sentence in line:
                return line
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.strip())
            if sentence in line:
                return line.strip()
        raise AssertionError(f"{sentence!r} was not said: {self.said}")

    def connection(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        if tls is None:
            return http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        return http.client.HTTPSConnection(
            "localhost", self.address[1], timeout=PATIENCE_S, context=tls
        )

    def get(
        self, path: str = "/metrics", tls: ssl.SSLContext | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(self.connection(tls)) as connection:
            connection.request("GET", path, headers=named)
            answer = connection.getresponse()
            return answer, answer.read()

    def status(self, path: str = "/metrics", **headers: str) -> int:
        return self.get(path, None, **headers)[0].status

    def faults(self) -> float:
        return summed(self.get()[1], "pte_trace_write_faults_total")

    def resident(self) -> int:
        """Bytes of memory in use."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def summed(body: bytes, name: str) -> float:
    """All series of *name* in what /metrics gave."""
    return sum(
        sample.value
        for family in plain_text(body.decode())
        for sample in family.samples
        if sample.name == name
    )


Serve = Callable[..., Served]

# What systemd does between fork and exec.
_HANDING_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start(
        *arguments: object,
        address: str = "127.0.0.1:0",
        before: tuple[str, ...] = (),
        **environ: str,
    ) -> Served:
        listen = ["--listen", address] if address else []
        command = [*before, sys.executable, "-m", "tests.simulated", "serve", *listen]
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )
        running.append(process)
        return Served(process)

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf = made.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    return made


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def users() -> str:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    return json.dumps({"basic_auth_users": {"ann": hashed}})


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


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
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


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


def threads(served: Served) -> list[dict[str, str]]:
    """/proc/PID/status of each thread."""
    found = []
    for path in Path(f"/proc/{served.process.pid}/task").glob("*/status"):
        lines = path.read_text().splitlines()
        found.append(
            {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}
        )
    return found


@pytest.mark.parametrize("config", [False, True])
def test_it_gives_up_its_rights(serve: Serve, tmp_path: Path, config: bool) -> None:
    path = tmp_path / "web.yml"
    path.write_text(users())
    served = serve(*(("--web-config", path) if config else ()))
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    had = int(Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0], 16)
    kept = had & CAP_DAC_READ_SEARCH if config else 0
    user = os.geteuid() or NOBODY
    assert len(threads(served)) > 1
    for thread in threads(served):
        assert set(thread["Uid"].split()) == {str(user)}
        # Whether CAP_BPF is kept is up to this kernel.
        found = [int(thread[name], 16) & ~CAP_BPF for name in CAPABILITIES]
        assert found == [0, kept, kept, 0]
        assert thread["NoNewPrivs"] == "1"
        if not os.geteuid():
            assert set(thread["Gid"].split()) == {str(NOBODY)}
            assert thread["Groups"] == ""
            assert int(thread["CapBnd"], 16) == 0


def test_root_that_may_not_give_up_its_rights_does_not_serve(serve: Serve) -> None:
    if os.geteuid():
        pytest.skip("only root can show it")
    served = serve(before=("setpriv", "--bounding-set=-setuid", "--inh-caps=-setuid"))
    _, errors = served.process.communicate(timeout=PATIENCE_S)
    assert served.process.returncode == 3
    assert "Root's rights cannot be given up: operation not permitted." in errors


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


def test_a_hundred_scrapes_at_once(serve: Serve) -> None:
    served = serve()
    begun = time.monotonic()
    before = summed(served.get()[1], "pte_trace_readings_total")
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: served.get(), range(100)))
    took = time.monotonic() - begun
    a_reading = sum(sum(each.counts.write_faults) for each in RECORDS)
    assert {answer.status for answer, _ in answers} == {200}
    for _, body in answers:
        readings = summed(body, "pte_trace_readings_total")
        assert summed(body, "pte_trace_write_faults_total") == a_reading * readings
        assert before <= readings <= before + took / FRESH_S + 1


def test_who_takes_no_answer_takes_no_memory(serve: Serve) -> None:
    """Answers of megabytes, and clients that read nothing of them."""
    served = serve("--label", f"pad={'x' * 100_000}")
    size = len(served.get()[1])
    assert size > 8 << 20
    before = served.resident()
    with ExitStack() as opened:
        for _ in range(30):
            idle = opened.enter_context(socket.create_connection(served.address, PATIENCE_S))
            idle.sendall(b"GET /metrics HTTP/1.1\r\nHost: idle\r\n\r\n")
        assert served.status("/-/healthy") == 200
        assert len(served.get()[1]) >= size
        assert served.resident() - before < 4 * size


def test_who_goes_away_in_the_midst_of_an_answer_is_no_news(serve: Serve) -> None:
    served = serve("--label", f"pad={'x' * 100_000}")
    assert served.status() == 200
    for _ in range(5):
        with socket.create_connection(served.address, PATIENCE_S) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: gone\r\n\r\n")
            client.recv(1)
            reset_at_close(client)
    assert served.status() == 200
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    assert served.process.stderr is not None
    assert served.process.stderr.read() == ""


def test_a_slow_client_keeps_nobody_waiting_and_is_sent_away(serve: Serve) -> None:
    served = serve()
    slow = [socket.create_connection(served.address, PATIENCE_S) for _ in range(20)]
    gone = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            for byte in b"GET /metrics HTTP/1.1\r\nHost: slow\r\nX-Slow: yes, very":
                for each in slow:
                    each.sendall(bytes([byte]))
                time.sleep(1)
        gone.set()

    threading.Thread(target=drip, daemon=True).start()
    assert served.status() == 200
    assert gone.wait(PATIENCE_S)
    assert served.status() == 200
    for each in slow:
        each.close()


def test_an_immense_header_is_refused(serve: Serve) -> None:
    served = serve()
    assert served.status() == 200
    before = served.resident()
    for _ in range(20):
        with socket.create_connection(served.address, PATIENCE_S) as client, suppress(OSError):
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * (1 << 20))
            client.sendall(b"\r\n\r\n")
            assert b" 431 " in client.recv(100)
    assert served.status() == 200
    assert served.resident() - before < 8 << 20


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_nonsense_ends_nothing(serve: Serve, nonsense: bytes) -> None:
    served = serve()
    with socket.create_connection(served.address, PATIENCE_S) as client:
        client.sendall(nonsense)
        with suppress(OSError):
            assert b"HTTP/1.1 200" not in client.recv(100)
    assert served.status() == 200


def test_passwords(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(users())
    served = serve("--web-config", path)
    assert served.status() == 401
    assert served.get()[0].headers["WWW-Authenticate"].startswith("Basic ")
    assert served.status("/-/healthy") == 401
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    for wrong in (
        basic("ann", "guess"),
        basic("ann", "x" * 1000),
        basic("ann", "\0"),
        basic("", PASSWORD),
        basic("bob", PASSWORD),
        "Basic !!!",
        "Basic",
        "Bearer token",
    ):
        assert served.status(Authorization=wrong) == 401


def test_tls(serve: Serve, tmp_path: Path, authority: trustme.CA) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}")
    served = serve("--web-config", path)
    assert served.heard("Listening").startswith("pte-trace: Listening on https://")
    assert served.get(tls=trusting(authority))[0].status == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        served.status()
    with socket.create_connection(served.address, PATIENCE_S) as silent:
        assert served.get(tls=trusting(authority))[0].status == 200
        assert silent


def test_client_certificates(serve: Serve, tmp_path: Path, authority: trustme.CA) -> None:
    path = tmp_path / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem,"
        " client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}"
    )
    served = serve("--web-config", path)
    stranger, known = trusting(authority), trusting(authority)
    authority.issue_cert("client").configure_cert(known)
    trustme.CA().issue_cert("client").configure_cert(stranger)
    assert served.get(tls=known)[0].status == 200
    for refused in (stranger, trusting(authority)):
        with pytest.raises(OSError):  # noqa: PT011
            served.get(tls=refused)


def test_a_changed_web_configuration_takes_effect(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("")
    served = serve("--web-config", path)
    before = served.faults()
    path.write_text(users())
    served.heard("read again")
    assert served.status() == 401
    path.write_text("nonsense")
    assert "from before stays in force" in served.heard("is not a mapping")
    assert served.status() == 401
    assert served.status(Authorization=basic("ann", PASSWORD)) == 200
    path.write_text("http_server_config: {headers: {X-Frame-Options: deny}}")
    while served.status() == 401:
        time.sleep(0.1)
    assert served.get()[0].headers["X-Frame-Options"] == "deny"
    assert served.faults() >= before


def test_a_renewed_certificate_takes_effect(
    serve: Serve, tmp_path: Path, authority: trustme.CA
) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: both.pem, key_file: both.pem}")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    served = serve("--web-config", path)
    assert served.get(tls=trusting(authority))[0].status == 200
    successor = trustme.CA()
    successor.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "both.pem"
    )
    served.heard("read again")
    assert served.get(tls=trusting(successor))[0].status == 200


def test_a_certificate_in_the_configuration_itself(
    serve: Serve, tmp_path: Path, authority: trustme.CA
) -> None:
    """It is taken when there are no rights any more, and with the suites that were chosen."""
    leaf = authority.issue_cert("localhost")
    path = tmp_path / "web.yml"
    path.write_text("")
    served = serve("--web-config", path)
    assert served.status() == 200
    settings = {
        "cert": leaf.cert_chain_pems[0].bytes().decode(),
        "key": leaf.private_key_pem.bytes().decode(),
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"],
    }
    path.write_text(json.dumps({"tls_server_config": settings}))
    served.heard("read again")
    tls = trusting(authority)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert served.get(tls=tls)[0].status == 200
    connection = served.connection(tls)
    with closing(connection):
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        assert connection.sock.cipher() == ("ECDHE-ECDSA-AES256-SHA", "TLSv1.0", 256)


def test_a_scrape_while_it_ends(serve: Serve) -> None:
    served = serve()
    statuses = set()

    def scrape() -> None:
        with suppress(OSError, http.client.HTTPException):
            while True:
                statuses.add(served.status())

    assert served.address
    threads = [threading.Thread(target=scrape) for _ in range(8)]
    for thread in threads:
        thread.start()
    while not statuses:
        time.sleep(0.01)
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    for thread in threads:
        thread.join()
    assert statuses == {200}
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()


def test_memory_does_not_grow(serve: Serve) -> None:
    served = serve()

    def scrape(times: int) -> None:
        for _ in range(times):
            assert served.get(Accept_Encoding="gzip", Accept=f"a/{os.urandom(4).hex()}")

    scrape(300)
    before = served.resident()
    scrape(1000)
    assert served.resident() - before < 2 << 20


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
        " print([name for name in sys.modules if name.startswith(('prometheus', 'hypercorn',"
        " 'jinja2', 'bcrypt', 'yaml'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    assert "serve" in cli.list_commands(None)  # type: ignore[arg-type]
