"""`pte-trace` as it is typed."""

from __future__ import annotations

import subprocess
import sys


def pte_trace(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pte_trace", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
