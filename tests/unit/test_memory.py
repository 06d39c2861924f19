"""What threads took for large blocks is given back."""

from __future__ import annotations

import subprocess
import sys

from pte_trace.exporter import memory

BLOCK = 1 << 20
# Each thread takes blocks, the first of which glibc maps, and keeps a little behind each.
THREADS = f"""
import re, threading
from pathlib import Path

kept = []

def resident():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10

def take():
    for _ in range(8):
        blocks = []
        for _ in range(16):
            blocks.append(bytes(range(256)) * ({BLOCK} // 256))
            kept.append(bytes(1000))

def threads():
    for _ in range(2):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
"""


def grown(first: str) -> int:
    """Bytes that are left of what two threads took, in a process that did *first*."""
    measured = "\n".join(
        (THREADS, first, "before = resident()", "threads()", "print(resident() - before)")
    )
    ran = subprocess.run(
        [sys.executable, "-c", measured], capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_what_threads_took_for_large_blocks_is_given_back() -> None:
    keep_small = f"from {memory.__name__} import keep_small; keep_small()"
    assert grown(keep_small) < BLOCK
    assert grown("") > 4 * BLOCK
