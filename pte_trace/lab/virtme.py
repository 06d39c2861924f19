"""The command line of virtme-ng's launcher, which builds an initramfs and starts QEMU.

`virtme-run` and not `vng`: the latter pastes its arguments together into a shell command.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pte_trace.lab import script
from pte_trace.lab.guest import Guest
from pte_trace.lab.kernels import Kernel
from pte_trace.programs import desk

_OVERLAYS = ("/etc", "/lib", "/home", "/opt", "/root", "/srv", "/usr", "/var", "/tmp")
_OF_THE_GUEST = ("/", "/dev", "/proc", "/run", "/sys")
_KERNEL_OPTIONS = (
    # Crypto self-tests take two seconds under emulation.
    "cryptomgr.notests",
    "raid=noautodetect",
    # A second console, to show a panic's end. There can be one serial console only.
    "console=hvc0",
)
# The CPUs that QEMU emulates share one time stamp counter, but the kernel takes them for
# unsynchronized ones and reads the slow HPET instead.
_EMULATION_OPTIONS = ("tsc=reliable",)


def arguments(kernel: Kernel, guest: Guest, shared: Path, cwd: Path, kvm: bool) -> list[str]:
    """What follows `virtme-run`: boots `kernel`, runs the shared directory's command, ends."""
    found = [
        *("--kimg", str(kernel.vmlinuz), "--mods", "auto", "--user", "root"),
        *("--name", "pte-trace-lab", "--force-9p"),
        *("--cpus", str(guest.cpu_count), "--memory", guest.memory.upper()),
        *("--script-sh", script.guest_command(shared)),
    ]
    for directory in overlays(cwd):
        found += ["--overlay-rwdir", directory]
    for writable in (shared, *guest.rwdirs):
        found += ["--rwdir", str(writable.absolute())]
    if guest.network and not guest.forwards:
        found += ["--net", "user"]
    if guest.nodes > 1:
        found += _nodes(guest)
    if not kvm:
        found.append("--disable-kvm")
    if guest.verbose:
        found += ["--verbose", "--show-boot-console"]
    options = [
        *_KERNEL_OPTIONS,
        *(() if kvm else _EMULATION_OPTIONS),
        *(("virtme.dhcp",) if guest.forwards else ()),
        *guest.options,
        f"loglevel={7 if guest.verbose else 4}",
        # Who counts a guest's instructions counts those of its compiler.
        *(() if guest.only_emulated else (f"{desk.OPTION}={shared / script.DESK}",)),
        f"PATH={shared / script.SHIMS}:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    for option in options:
        found += ["--kopt", option]
    qemu = [
        *("-chardev", f"file,id=record,path={shared / script.CONSOLE}"),
        *("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=record"),
        *(("-icount", "shift=0,sleep=off") if guest.icount else ()),
        *(("-plugin", guest.plugin) if guest.plugin else ()),
        *(_forwarding(guest.forwards) if guest.forwards else ()),
    ]
    return found + [f"--qemu-opt={option}" for option in qemu]


def _nodes(guest: Guest) -> list[str]:
    """Of the CPUs and the megabytes each node has those up to where the next one's begin."""
    firsts = [guest.cpu_count * node // guest.nodes for node in range(guest.nodes + 1)]
    shares = [guest.megabytes * node // guest.nodes for node in range(guest.nodes + 1)]
    found = []
    for node in range(guest.nodes):
        cpus = f"{firsts[node]}-{firsts[node + 1] - 1}"
        found += ["--numa", f"{shares[node + 1] - shares[node]}M,cpus={cpus}"]
    return found


def _forwarding(forwards: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """A network card of QEMU's user networking, as `--net user` makes it, with ways in."""
    ways = "".join(f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in forwards)
    return ("-netdev", f"user,id=n0{ways}", "-device", "virtio-net-pci,netdev=n0")


def overlays(cwd: Path) -> list[str]:
    """Directories that a guest may write to without changing this machine: `cwd` among them."""
    top = "/".join(cwd.parts[:2]).replace("//", "/")
    return [*_OVERLAYS, *([] if top in (*_OVERLAYS, *_OF_THE_GUEST) else [top])]
