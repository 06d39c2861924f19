"""What workloads need of a guest: a disk with a file system, swap, NUMA balancing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE = 64 << 20
_NUMA_BALANCING = Path("/proc/sys/kernel/numa_balancing")


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """An ext4 file system of its own: it wants to know of the first write to each page."""
    _modules("loop", "ext4")
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(_SIZE)
    _run("mkfs.ext4", "-q", str(image))
    # In two steps: a kernel without BLK_DEV_WRITE_MOUNTED mounts none that is open for writing.
    device = _run("losetup", "--find", "--show", str(image)).strip()
    _run("mount", device, str(mounted))
    try:
        yield mounted
    finally:
        _run("umount", str(mounted))
        _run("losetup", "--detach", device)


@contextmanager
def swap() -> Iterator[None]:
    """Swap in compressed memory."""
    _modules("zram")
    device = Path("/sys/block/zram0")
    (device / "disksize").write_text(str(_SIZE))
    _run("mkswap", "-q", "/dev/zram0")
    _run("swapon", "/dev/zram0")
    try:
        yield
    finally:
        _run("swapoff", "/dev/zram0")
        (device / "reset").write_text("1")


@contextmanager
def numa_balancing(on: bool) -> Iterator[None]:
    """NUMA balancing, which works on the lab's one node too."""
    before = _NUMA_BALANCING.read_text()
    _NUMA_BALANCING.write_text("1" if on else "0")
    try:
        yield
    finally:
        _NUMA_BALANCING.write_text(before)


def _modules(*names: str) -> None:
    """Load what is not built in."""
    for name in names:
        _run("modprobe", name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
