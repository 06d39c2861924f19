"""Root file systems of Debian's suites.

With their BCC, LLVM and Python for `make test-suites`; bare for `make test-newcomer`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pte_trace.lab import archives, cache, tools
from pte_trace.lab.apt import KEYRING, Suite
from pte_trace.lab.progress import Progress

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
# The last ones are those that the README's examples compile with.
PACKAGES = (
    *("python3", "python3-bpfcc", "btrfs-progs", "e2fsprogs", "kmod", "procps"),
    *("gcc", "libc6-dev", "make"),
)
# What the kernel tests take of what developing takes.
TESTING = {"drgn", "pyte", "pytest", "pytest-timeout"}


def ensure(name: str, progress: Progress) -> Path:
    """A suite's root with what pte-trace and its tests require."""
    return root(name, "suites", PACKAGES, progress, _requirements())


def root(
    name: str, kind: str, packages: Sequence[str], progress: Progress, wheels: Sequence[str] = ()
) -> Path:
    """The root of a suite from the cache, made first unless all that goes into it is the same.

    Run it as root, as debootstrap asks. HostError where the archive cannot be had.
    """
    directory = cache.directory()
    found = archives.find(tools.run, None)
    suite = Suite(name, found, directory / "apt" / name, tools.run)
    with cache.locked(directory, lambda: progress.say("Waiting for another pte-trace lab")):
        suite.update()
    versions = [suite.version(package) for package in packages]
    went_in = json.dumps([packages, versions, wheels])
    entry = hashlib.sha256(went_in.encode()).hexdigest()[:12]
    with cache.locked(directory / kind, lambda: progress.say("Waiting for another root")):
        kept = directory / kind / name / entry
        if not kept.is_dir():
            with cache.new_entry(kept.parent, entry) as made:
                with progress.step(f"{name}: making its root file system"):
                    _debootstrap(name, found.main, packages, made)
                if wheels:
                    with progress.step(f"{name}: installing what pte-trace requires"):
                        _pip(wheels, made)
    return kept


def _requirements() -> list[str]:
    project = tomllib.loads(PROJECT.read_text())["project"]
    developing = project["optional-dependencies"]["dev"]
    return [
        *project["dependencies"],
        *project["optional-dependencies"]["recordings"],
        *(each for each in developing if each.partition(">=")[0] in TESTING),
    ]


def _debootstrap(suite: str, archive: str, packages: Sequence[str], root: Path) -> None:
    options = ["--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(packages)}"]
    # What it mounts there must not outlive it: a root that was left is removed.
    alone = ["unshare", "--mount", "debootstrap"]
    tools.check(tools.run, [*alone, *options, suite, str(root), archive], root)


def _pip(requirements: Sequence[str], root: Path) -> None:
    """Put the wheels for the suite's Python where Debian's looks for what its user installed."""
    python = (root / "usr/bin/python3").readlink().name
    target = root / "usr/local/lib" / python / "dist-packages"
    wanted = ["--python-version", python.removeprefix("python"), "--only-binary=:all:"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *wanted]
    tools.check(tools.run, [*pip, *requirements], root)


if __name__ == "__main__":
    print(ensure(sys.argv[1], Progress()))
