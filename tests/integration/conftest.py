"""What the tests of `pte-trace serve` have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.integration.served import Serve, Served


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start(
        *arguments: object,
        address: str = "127.0.0.1:0",
        before: tuple[str, ...] = (),
        python: str = sys.executable,
        **environ: str,
    ) -> Served:
        listen = ["--listen", address] if address else []
        command = [*before, python, "-m", "tests.simulated", "serve", *listen]
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
