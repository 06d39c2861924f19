"""The files by which host and guest talk: one directory, writable on both sides.

The guest finds its command there, and leaves the command's exit status behind. Where there
is no status the guest died first.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

CONSOLE = "console"
SHIMS = "shims"
DESK = "desk"

# How what a kernel prints of its own fault begins: an oops, then the panic that it may lead to.
_FAULT = re.compile(r"\bBUG: |\bOops: |general protection fault|double fault|Kernel panic")

_COMMAND, _STARTED, _STATUS = "command", "started", "status"
_SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# Half of a boot under emulation went into these two: tmpfiles sets up a system that is thrown
# away, and udev loads a driver for each emulated device. virtme-ng needs the links to its
# virtio ports only (udevd, which runs by then, links what comes later), and the driver of a
# network card where it was given one: before udevd, which would rename it. The top of an overlay
# is its maker's alone, so /tmp has to be made everybody's.
_SHIMS = {
    "systemd-tmpfiles": """\
PATH=${PATH#*:}
chmod 1777 /tmp
if grep -q virtme.dhcp /proc/cmdline; then modprobe virtio_net; fi
""",
    "udevadm": """\
PATH=${PATH#*:}
case "$*" in
trigger*devices*)
    mkdir -p /dev/virtio-ports
    for name in /sys/class/virtio-ports/*/name; do
        port=${name%/name}
        ln -sf "../${port##*/}" "/dev/virtio-ports/$(cat "$name")"
    done ;;
settle*) exec udevadm "$@" ;;
esac
""",
}


def write(shared: Path, argv: Sequence[str], cwd: Path, kernel: str) -> None:
    """Put into the shared directory what the guest is to run."""
    (shared / _COMMAND).write_bytes(os.fsencode(command(shared, argv, cwd, kernel)))
    (shared / SHIMS).mkdir()
    for name, body in _SHIMS.items():
        shim = shared / SHIMS / name
        shim.write_text(f"#!/bin/sh\n{body}\n")
        shim.chmod(0o755)


def command(shared: Path, argv: Sequence[str], cwd: Path, kernel: str) -> str:
    """The shell script that runs argv in the guest as it would run here.

    `exec` in a subshell, so that argv is a program also where a shell builtin has its name.
    PTE_TRACE_LAB tells the command that, and in which kernel, it runs in the lab.
    """
    path = [os.path.dirname(sys.executable), os.environ.get("PATH", ""), *_SYSTEM_PATH]
    status = shlex.quote(str(shared / _STATUS))
    return f"""\
export PATH={shlex.quote(os.pathsep.join(filter(None, path)))}
export PTE_TRACE_LAB={shlex.quote(kernel)}
: > {shlex.quote(str(shared / _STARTED))}
cd {shlex.quote(str(cwd))} && (exec {shlex.join(argv)}) </dev/null
echo $? > {status}.new
mv {status}.new {status}
"""


def guest_command(shared: Path) -> str:
    """What virtme-ng is told to run: short, since it travels on the kernel's command line."""
    return f"sh {shlex.quote(str(shared / _COMMAND))}"


def started(shared: Path) -> bool:
    """Whether the guest has come as far as the command."""
    return (shared / _STARTED).exists()


def status(shared: Path) -> int | None:
    """The command's exit status, None where the guest ended before the command did."""
    try:
        return int((shared / _STATUS).read_text())
    except FileNotFoundError:
        return None


def console_end(shared: Path, lines: int = 24) -> str:
    """What the guest's kernel wrote last: what it says of a fault of its own, else the end."""
    try:
        written = (shared / CONSOLE).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    fault = next((at for at, line in enumerate(written) if _FAULT.search(line)), -lines)
    return "\n".join(line.rstrip() for line in written[fault:][:lines])
