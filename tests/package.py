"""The life of the package that `make deb` built, on a minimal Debian: install, use, upgrade, purge.

python -m tests.package SUITE KERNEL

In a guest with that kernel, without a network, in a copy of the suite's minimal root that has what
the package depends on. Run it as root.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pte_trace.lab.progress import Progress
from tests import suites

PROJECT = Path(__file__).parents[1]
_TIMEOUT_S = 1800
# Where no systemd runs, what makes the package's user.
_MAKES_USERS = "systemd-standalone-sysusers"


def depended_on(package: Path) -> list[str]:
    """The packages' names, of alternatives the one that a minimal root can have."""
    field = ["dpkg-deb", "--field", str(package), "Depends"]
    said = subprocess.run(field, capture_output=True, text=True, check=True).stdout
    names = [re.split(r"[ (|]", each.strip())[0] for each in said.split(",")]
    return [_MAKES_USERS if each == "systemd" else each for each in names]


def main(suite: str, kernel: str) -> int:
    (package,) = PROJECT.glob("build/deb/*.deb")
    root = suites.root(suite, "package", depended_on(package), Progress())
    guest = [str(PROJECT / ".venv/bin/pte-trace"), "lab", "run", "--kernel", kernel, "--cpus", "1"]
    inside = ["unshare", "--mount", "sh", "tests/enter.sh", str(root)]
    life = ["sh", "tests/package.sh", str(package), str(PROJECT / "build/workloads/toggle")]
    command = [*guest, "--timeout", str(_TIMEOUT_S), "--", *inside, *life]
    return subprocess.run(command, cwd=PROJECT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
