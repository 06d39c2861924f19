"""Run the host's own tools, and say in one sentence why one failed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pte_trace.errors import HostError

Runner = Callable[[Sequence[str], Path], "subprocess.CompletedProcess[str]"]

_PROVIDERS = {
    "apt-cache": "Run this on Debian or a relative of it: kernels are fetched with apt.",
    "apt-get": "Run this on Debian or a relative of it: kernels are fetched with apt.",
    "busybox": "sudo apt install busybox-static",
    "depmod": "sudo apt install kmod",
    "dpkg-deb": "sudo apt install dpkg",
    "file": "sudo apt install file",
    "qemu-system-x86_64": "sudo apt install qemu-system-x86",
    "virtme-run": f"{sys.executable} -m pip install virtme-ng",
}
_BUILD_PACKAGES = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "pahole": "pahole",
    "xz": "xz-utils",
    "depmod": "kmod",
}
_SYSTEM = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WHICH_MISSING = 'for tool; do command -v "$tool" >/dev/null || echo "$tool"; done; true'
# The header that the kernel's objtool and resolve_btfids are compiled with.
_LIBELF = ("gcc", "-fsyntax-only", "-include", "gelf.h", "-x", "c", "/dev/null")
_NEEDED_TO_BOOT = ("qemu-system-x86_64", "virtme-run", "busybox", "file", "depmod")
_PACKAGE = {"qemu-system-x86_64": "QEMU", "virtme-run": "virtme-ng"}


def search_path(environ: Mapping[str, str] = os.environ) -> str:
    """Where tools are looked for: beside Python, in PATH, and where Debian keeps root's.

    By sudo PATH is not that of who called it, whatever sudo was told to keep.
    """
    beside = os.path.dirname(sys.executable)
    if os.geteuid() == 0 and "SUDO_UID" in environ:
        return os.pathsep.join([beside, _SYSTEM])
    return os.pathsep.join([beside, environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def locate(tool: str, path: str | None = None) -> str:
    """The full path of a tool. HostError where it is missing, naming what provides it."""
    found = shutil.which(tool, path=search_path() if path is None else path)
    if found is None:
        mend = _PROVIDERS.get(tool, f"sudo apt install {tool}")
        raise HostError(f"{_PACKAGE.get(tool, tool)} is not installed.", mend)
    return found


def check_boot_tools(path: str | None = None) -> None:
    """Raise HostError unless all is there that booting a guest takes."""
    for tool in _NEEDED_TO_BOOT:
        locate(tool, path)


def check_build_tools(runner: Runner) -> None:
    """Raise HostError unless all is there that building a kernel takes, naming all packages."""
    missing = check(runner, ["sh", "-c", _WHICH_MISSING, "sh", *_BUILD_PACKAGES], Path("/")).split()
    packages = [_BUILD_PACKAGES[tool] for tool in missing]
    if "gcc" not in missing and runner(_LIBELF, Path("/")).returncode != 0:
        missing.append("libelf")
        packages.append("libelf-dev")
    if missing:
        raise HostError(
            f"Building a kernel needs {', '.join(missing)}.",
            f"sudo apt install {' '.join(packages)}",
        )


def run(argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end with English messages; the default Runner."""
    return subprocess.run(
        [locate(argv[0]), *argv[1:]],
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C", "PATH": search_path()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def check(runner: Runner, argv: Sequence[str], cwd: Path) -> str:
    """What a tool writes to standard output. HostError where it fails."""
    done = runner(argv, cwd)
    if done.returncode == 0:
        return done.stdout
    if "No space left on device" in done.stderr:
        raise disk_full(cwd)
    raise HostError(f"{argv[0]} failed: {last_error(done.stderr)}", "Try it again.")


def last_error(output: str) -> str:
    """What a tool complained about last, without its prefix; "" for no output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line[2:].strip() for line in lines if line.startswith("E:")]
    return (errors or lines or [""])[-1]


def disk_full(cache: Path) -> HostError:
    """The error for a full disk under the cache."""
    return HostError(
        f"The disk that holds {cache} is full.",
        "Free some space, or set PTE_TRACE_LAB_CACHE to a directory on another disk.",
    )
