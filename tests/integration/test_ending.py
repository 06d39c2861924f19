"""A signal that comes while the BPF programs are made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pte_trace.programs.program import kernel_tree

CHECKOUT = Path(__file__).parents[2]
# A host that can be traced, with another compiler.
PROGRAM = """
import sys
from pathlib import Path
from pte_trace import user_cache
from pte_trace.host import plan
from pte_trace.programs import compiler
from pte_trace.__main__ import main
from pte_trace.kernel.btf import BTF
from pte_trace.session import Session, _Host
from tests.btf_writer import kernel_btf
from tests.builders import host

def examine(session):
    session._host = _Host(host(), plan.make(host()), BTF(kernel_btf()))

Session.examine = examine
compiler.__file__ = sys.argv.pop(1)
cache = Path(sys.argv.pop(1))
user_cache.directory = lambda: cache
main()
"""
# Ours, with a BCC that never returns: as the real one in its long seconds, it stays inside C.
COMPILER = f"""
import ctypes, json, os, sys
from pathlib import Path
from unittest.mock import MagicMock

sys.path.insert(0, {str(CHECKOUT)!r})
from pte_trace.programs import compiler

def never(*_):
    said = Path(__file__ + ".part")
    said.write_text(json.dumps([os.getpid(), dict(os.environ)]))
    said.rename(__file__ + ".said")
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    lock(mutex)
    lock(mutex)

sys.modules["bcc"] = sys.modules["bcc.libbcc"] = bcc = MagicMock()
bcc.lib.bpf_module_create_c_from_string = never
compiler.main()
"""


def eventually(found: Any) -> Any:
    """What *found* returns once that is something."""
    deadline = time.monotonic() + 60
    while not (what := found()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return what


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
@pytest.mark.parametrize("command", ["top", "run", "record"])
def test_it_ends_without_waiting_for_the_compiler_and_leaves_nothing(
    tmp_path_factory: pytest.TempPathFactory, command: str, number: signal.Signals, status: int
) -> None:
    here, cache = tmp_path_factory.mktemp("here"), tmp_path_factory.mktemp("cache")
    compiler = tmp_path_factory.mktemp("compiler") / "compiler.py"
    compiler.write_text(COMPILER)
    said = compiler.with_name("compiler.py.said")
    arguments = {"top": (), "run": ("true",), "record": ("-o", "r.parquet")}[command]
    told = {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(here)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, compiler, cache, command, *arguments],
        cwd=here,
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            eventually(lambda: said.exists() or process.poll() is not None)
            compiling, environment = json.loads(said.read_text())
            process.send_signal(number)
            rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert "".join(rest).strip() == ""
    eventually(lambda: not Path(f"/proc/{compiling}").exists())
    # The recording was made at once, to know that it can be; it alone needs taking away again.
    killed = command == "record" and number is signal.SIGKILL
    assert os.listdir(here) == (["r.parquet"] if killed else [])
    assert list(cache.rglob("*.json")) == []
    # Nothing that the caller's environment names reaches the compiler; Python adds LC_CTYPE.
    environment.pop("LC_CTYPE", None)
    assert environment == {"BCC_KERNEL_SOURCE": kernel_tree()}
