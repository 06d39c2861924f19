"""A host, as `pte-trace` finds it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tests.kernel.conftest import WORKLOADS, Finished

PAGES = 23


@dataclass(frozen=True)
class Host:
    """A host as it looks to what is started with these words before it."""

    words: tuple[str, ...] = ()

    def run(self, *arguments: object) -> Finished:
        done = subprocess.run(
            [*self.words, sys.executable, "-m", "pte_trace", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def doctor(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("doctor", "--json").stdout)
        return found

    def is_refused(self, foretold: dict[str, str]) -> bool:
        done = self.run("run", "--", "true")
        said = f"pte-trace: {foretold['why']}\n  {foretold['mend']}\n"
        return (done.status, done.stdout, done.stderr) == (3, "", said)

    def traced(self) -> dict[str, Any]:
        """The document of a workload that writes to PAGES pages."""
        done = self.run("run", "--format", "json", "--", WORKLOADS / "toggle", PAGES)
        assert done.status == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        (row,) = (row for row in document["vmas"] if row["start"] == "0x600000000000")
        assert row["write_faults"]["other"] == PAGES
        assert row["ptes_changed"] == 2 * PAGES
        assert row["ptes_made_writable"] == PAGES
        return document
