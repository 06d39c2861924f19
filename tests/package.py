"""pte-trace as somebody installs it on a minimal Debian: install, use, upgrade, remove.

python -m tests.package deb|pipx SUITE KERNEL

In a guest with that kernel, without a network, in a copy of the suite's minimal root: the package
that `make deb` built, with what it depends on; or what pipx makes of this checkout, with Debian's
BCC. Run it as root.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from pte_trace.lab.progress import Progress
from tests import suites

PROJECT = Path(__file__).parents[1]
PROGRAM = str(PROJECT / "build/workloads/toggle")
_TIMEOUT_S = 3600
# Where no systemd runs, what makes the package's user.
_MAKES_USERS = "systemd-standalone-sysusers"
# What pipx keeps for itself, and what builds the wheel.
_BESIDE = ("pip", "setuptools", "wheel", "hatchling")


def depended_on(package: Path) -> list[str]:
    """The packages' names, of alternatives the one that a minimal root can have."""
    field = ["dpkg-deb", "--field", str(package), "Depends"]
    said = subprocess.run(field, capture_output=True, text=True, check=True).stdout
    names = [re.split(r"[ (|]", each.strip())[0] for each in said.split(",")]
    return [_MAKES_USERS if each == "systemd" else each for each in names]


def in_guest(root: Path, kernel: str, *command: str) -> int:
    """Run *command* where *root* is the root, and return its status."""
    guest = [str(PROJECT / ".venv/bin/pte-trace"), "lab", "run", "--kernel", kernel, "--cpus", "1"]
    inside = ["unshare", "--mount", "sh", "tests/enter.sh", str(root)]
    whole = [*guest, "--timeout", str(_TIMEOUT_S), "--", *inside, *command]
    return subprocess.run(whole, cwd=PROJECT, check=False).returncode


def deb(suite: str, kernel: str) -> int:
    (package,) = PROJECT.glob("build/deb/*.deb")
    root = suites.root(suite, "package", depended_on(package), Progress())
    return in_guest(root, kernel, "sh", "tests/package.sh", str(package), PROGRAM)


def pipx(suite: str, kernel: str) -> int:
    root = suites.root(suite, "pipx", ("pipx", "python3-bpfcc"), Progress())
    wheels = PROJECT / "build/pipx" / suite
    required = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    python = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    download = ["download", "--quiet", "--dest", str(wheels), "--only-binary=:all:"]
    of = ["--python-version", python, *required, *_BESIDE]
    subprocess.run([sys.executable, "-m", "pip", *download, *of], check=True)
    return in_guest(root, kernel, "sh", "tests/pipx.sh", str(wheels), PROGRAM)


HOW: dict[str, Callable[[str, str], int]] = {"deb": deb, "pipx": pipx}

if __name__ == "__main__":
    how, *where = sys.argv[1:]
    sys.exit(HOW[how](*where))
