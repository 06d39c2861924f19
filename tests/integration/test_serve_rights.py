"""What rights `pte-trace serve` has while it answers."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from pte_trace.kernel.rights import NOBODY
from tests.integration.served import PASSWORD, PATIENCE_S, Serve, Served, basic, users

CAPABILITIES = ("CapInh", "CapPrm", "CapEff", "CapAmb")
CAP_BPF, CAP_DAC_READ_SEARCH = 1 << 39, 1 << 2


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


# In a mount namespace: this checkout, and the virtual environment in it, below a closed home.
_AT_HOME = """
mount --bind "$1" "$2/checkout" && cd "$2/checkout" && shift 2 && exec "$@"
"""


@pytest.fixture
def closed_home() -> Iterator[tuple[tuple[str, ...], str]]:
    """What to put before a command, and the Python there, so that all of it is below such a one."""
    if os.geteuid():
        pytest.skip("only root can show it")
    checkout = Path(__file__).parents[2]
    home = Path(tempfile.mkdtemp())
    assert home.stat().st_mode & 0o777 == 0o700
    (home / "checkout").mkdir()
    enter = ("unshare", "--mount", "sh", "-c", _AT_HOME, "sh", str(checkout), str(home))
    yield enter, str(home / "checkout" / Path(sys.executable).relative_to(checkout))
    shutil.rmtree(home)


def test_all_that_answering_takes_is_loaded_before_the_rights_are_gone(
    serve: Serve, closed_home: tuple[tuple[str, ...], str]
) -> None:
    before, python = closed_home
    served = serve(before=before, python=python)
    for page in ("/", "/metrics", "/-/ready"):
        assert served.status(page) == 200
    for accepted in ("application/openmetrics-text", "text/plain"):
        for coding in ("gzip", "identity"):
            assert served.status(Accept=accepted, Accept_Encoding=coding) == 200
    with socket.create_connection(served.address, PATIENCE_S) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    served.heard("no HTTP request")
    served.process.terminate()
    assert served.process.wait(PATIENCE_S) == 0
    assert len(served.said) == 2


def test_so_is_what_a_web_configuration_takes_that_comes_later(
    serve: Serve, closed_home: tuple[tuple[str, ...], str]
) -> None:
    """With the right to search directories dropped, which it would keep to read the files."""
    authority = trustme.CA()
    both = authority.issue_cert("localhost").private_key_and_cert_chain_pem
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        both.write_to_path(directory / "both.pem")
        (directory / "both.pem").chmod(0o644)
        path = directory / "web.yml"
        path.write_text("{}")
        before, python = closed_home
        without = ("setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search")
        served = serve("--web-config", path, before=(*before, *without), python=python)
        assert served.status() == 200
        path.write_text(users())
        served.heard("read again")
        assert served.status() == 401
        assert served.status(Authorization=basic("ann", "wrong")) == 401
        assert served.status("/", Authorization=basic("ann", PASSWORD)) == 200
        path.write_text("nonsense")
        served.heard("stays in force")
        path.write_text("tls_server_config: {cert_file: both.pem, key_file: both.pem}")
        served.said[:] = [line for line in served.said if "read again" not in line]
        served.heard("read again")
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        assert served.get("/", tls)[0].status == 200
        with pytest.raises((http.client.HTTPException, OSError)):
            served.status()
        served.heard("did not bring TLS about")
        served.process.terminate()
        assert served.process.wait(PATIENCE_S) == 0
