"""README's two commands, as somebody types them on a Debian that has nothing yet.

python -m tests.newcomer [--user USER] SUITE [COMMAND...]

In a copy of the suite's minimal root, once as root and once as a user with sudo: what is committed
here is cloned into a home that nobody else may enter, and each command is run in the clone. What
each took is said at the end. Run it as root.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pte_trace.lab import cache
from pte_trace.lab.progress import Progress
from tests import suites

PROJECT = Path(__file__).parents[1]
COMMANDS = ("make demo", "make test")
USERS = ("root", "newcomer")
# What README asks for before its two commands, and what a clone takes.
PACKAGES = ("ca-certificates", "git", "make", "sudo")
# Keys that this machine trusts beside Debian's, as a proxy's.
_KEYS = Path("/usr/local/share/ca-certificates")
_PREPARE = """
update-ca-certificates >/dev/null 2>&1
useradd --create-home --shell /bin/bash newcomer
echo 'newcomer ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/newcomer
chmod 0700 /root /home/newcomer
"""
# It is a root of its own there, as tests that mount something in a namespace want it. With the
# namespaces ends all that was mounted, and all that runs there.
_ENTER = """
set -e
mount --bind "$1" "$1"
cd "$1"
mount -t proc proc proc
for each in sys dev; do mount --rbind "/$each" "$each"; done
mount -t tmpfs tmpfs run
pivot_root . mnt
umount --lazy /mnt
exec sh -c "$2"
"""


class Root:
    """A copy of a minimal root, to be changed as one likes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, script: str) -> int:
        """Run a shell's script as root in there, and return its status."""
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        # As after a login: nothing of what this machine's user has set.
        clean = {name: os.environ[name] for name in ("TERM", "LANG") if name in os.environ}
        path = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        command = [*apart, "sh", "-c", _ENTER, "sh", str(self.path), script]
        return subprocess.run(command, env={**clean, **path}, check=False).returncode


def let_in(root: Path) -> None:
    """Let a root have what this machine trusts, and Debian's archive as this machine sees it."""
    if _KEYS.is_dir():
        shutil.copytree(_KEYS, root / "usr/local/share/ca-certificates", dirs_exist_ok=True)
    # An archive that stands still has a sid that has expired; its signature is looked at.
    still = root / "etc/apt/apt.conf.d/archive-stands-still"
    still.write_text('Acquire::Check-Valid-Until "false";\n')


@contextmanager
def bare(suite: str) -> Iterator[Root]:
    """A suite's minimal root, with the network and the archive of this machine."""
    kept = suites.root(suite, "bare", PACKAGES, Progress())
    with tempfile.TemporaryDirectory(prefix="newcomer-", dir=cache.directory()) as directory:
        path = Path(directory) / "root"
        subprocess.run(["cp", "--archive", kept, path], check=True)
        shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
        shutil.copy("/etc/hosts", path / "etc/hosts")
        let_in(path)
        yield Root(path)


def typed(root: Root, user: str, commands: Sequence[str]) -> Iterator[tuple[str, int, float]]:
    """Clone, and type the commands one after the other: status and seconds of each."""
    into = "cd ~/pte-trace"
    for command in ("git clone --quiet /srv/pte-trace.bundle ~/pte-trace", *commands):
        print(f"== {user}: {command}", flush=True)
        began = time.monotonic()
        line = command if command.startswith("git ") else f"{into} && {command}"
        status = root.run(f"su --login {user} --command '{line}'")
        yield command, status, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.newcomer")
    parser.add_argument("suite")
    parser.add_argument("commands", nargs="*", default=COMMANDS)
    parser.add_argument("--user", action="append", choices=USERS)
    asked = parser.parse_args()
    results = []
    for user in asked.user or USERS:
        with bare(asked.suite) as root:
            bundle = ["git", "bundle", "create", "-q", str(root.path / "srv/pte-trace.bundle")]
            subprocess.run([*bundle, "HEAD"], cwd=PROJECT, check=True)
            if root.run(_PREPARE):
                return 1
            results += [(user, *each) for each in typed(root, user, asked.commands)]
    for user, command, status, seconds in results:
        said = f"status {status}" if status else "done"
        print(f"{asked.suite}  {user:8}  {command:58}  {seconds / 60:5.1f} min  {said}")
    return int(any(status for _, _, status, _ in results))


if __name__ == "__main__":
    sys.exit(main())
