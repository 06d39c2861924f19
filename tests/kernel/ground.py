"""What workloads need of a guest: a disk, swap, cgroups, settings; and what disturbs them."""

from __future__ import annotations

import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

_SIZE = 64 << 20
_KEPT_KIB = 512 << 10
_SECOND_CPU = Path("/sys/devices/system/cpu/cpu1/online")


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """An ext4 file system of its own: it wants to know of the first write to each page."""
    modules("loop", "ext4")
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
    modules("zram")
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
def setting(name: str, value: object) -> Iterator[None]:
    """What sysctl(8) calls *name*."""
    path = Path("/proc/sys", *name.split("."))
    before = path.read_text()
    path.write_text(str(value))
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def full_node() -> Iterator[None]:
    """The last NUMA node has no memory left to move a page to.

    hugetlb takes all that is in pieces of 2 MiB; then the kernel wants to keep more than the rest.
    """
    node = sorted(Path("/sys/devices/system/node").glob("node[0-9]*"))[-1]
    pages = node / "hugepages/hugepages-2048kB/nr_hugepages"
    pages.write_text(str(1 << 20))
    try:
        with setting("vm.min_free_kbytes", _KEPT_KIB):
            yield
    finally:
        pages.write_text("0")


@contextmanager
def cgroup(place: Path, **limits: object) -> Iterator[Path]:
    """A cgroup with *limits* as `memory_max`; where none is mounted, in *place*."""
    mount = Path("/sys/fs/cgroup")
    if not (mount / "cgroup.controllers").exists():
        mount = place / "cgroup2"
        mount.mkdir()
        _run("mount", "-t", "cgroup2", "none", str(mount))
    made = mount / "pte-trace-test"
    made.mkdir()
    try:
        for name, limit in limits.items():
            (mount / "cgroup.subtree_control").write_text(f"+{name.partition('_')[0]}")
            (made / name.replace("_", ".")).write_text(str(limit))
        yield made
    finally:
        made.rmdir()


def inside(group: Path, *command: object) -> list[str]:
    """*command*, which moves to a cgroup before it is executed."""
    enter = f"echo $$ >{shlex.quote(str(group))}/cgroup.procs"
    return ["sh", "-c", f'{enter}; exec "$@"', "sh", *map(str, command)]


@contextmanager
def _over_and_over(disturb: Callable[[], object]) -> Iterator[None]:
    """*disturb* meanwhile, in a thread, as often as it can be."""
    over = threading.Event()

    def until_over() -> None:
        while not over.is_set():
            disturb()

    with ThreadPoolExecutor() as threads:
        disturbing = threads.submit(until_over)
        try:
            yield
        finally:
            over.set()
            disturbing.result()


def compaction() -> AbstractContextManager[None]:
    """All of the memory is compacted, over and over; what is locked stays where it is."""
    compact = Path("/proc/sys/vm/compact_memory")
    return _over_and_over(lambda: compact.write_text("1"))


def a_cpu_that_comes_and_goes() -> AbstractContextManager[None]:
    """The second CPU is taken offline and back, over and over."""

    def off_and_on() -> None:
        for state in "01":
            _SECOND_CPU.write_text(state)

    return _over_and_over(off_and_on)


def modules(*names: str) -> None:
    """Load what is not built in."""
    for name in names:
        _run("modprobe", name)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
