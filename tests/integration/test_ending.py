"""A signal that comes while the BPF programs are made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pte_trace.program import kernel_tree

# A host that can be traced, and a BCC whose compiler never returns: as the real one in its long
# seconds, it keeps its thread inside C. What is said is said when it is there (in futex(), 202).
PROGRAM = """
import ctypes, os, sys, threading, types
from pathlib import Path
from pte_trace import plan
from pte_trace.__main__ import main
from pte_trace.btf import BTF
from pte_trace.session import Session
from tests.btf_writer import kernel_btf
from tests.builders import host

def examine(session):
    session.facts = host()
    session.plan = plan.make(session.facts)
    session._btf = BTF(kernel_btf())

def compile(**_):
    lock, mutex = ctypes.CDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    lock(mutex)
    threading.Thread(target=tell, args=(threading.get_native_id(), mutex), daemon=True).start()
    lock(mutex)

def tell(thread, mutex):
    waiting = f"202 {hex(ctypes.addressof(mutex))} "
    while not Path(f"/proc/self/task/{thread}/syscall").read_text().startswith(waiting):
        pass
    print("compiling", os.environ["BCC_KERNEL_SOURCE"], flush=True)

Session.examine = examine
sys.modules["bcc"] = types.SimpleNamespace(BPF=compile)
sys.modules["bcc.libbcc"] = types.SimpleNamespace(lib=None)
main()
"""


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
@pytest.mark.parametrize("command", ["top", "run", "record"])
def test_it_ends_without_waiting_for_the_compiler_and_leaves_nothing(
    tmp_path: Path, command: str, number: signal.Signals, status: int
) -> None:
    arguments = {"top": (), "run": ("true",), "record": ("-o", "r.parquet")}[command]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, command, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            said, tree = process.stdout.readline().split()
            assert said == "compiling"
            assert Path(tree).samefile(kernel_tree())
            process.send_signal(number)
            rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert "".join(rest).strip() == ""
    # The recording was made at once, to know that it can be; it alone needs taking away again.
    killed = command == "record" and number is signal.SIGKILL
    assert os.listdir(tmp_path) == (["r.parquet"] if killed else [])
