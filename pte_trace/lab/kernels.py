"""Which kernels the lab knows, and how one is found in the cache, whatever put it there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import UsageError

DEBIAN = {
    "bullseye": "Debian 11, Linux 5.10: before the optimization",
    "bookworm": "Debian 12, Linux 6.1: the optimization as it landed in 6.0",
    "trixie": "Debian 13, Linux 6.12: clean and huge pages and NUMA hints too, since 6.2",
    "sid": "Debian unstable: the newest kernel that Debian has",
}
# What the name of a suite's kernel that may be preempted anywhere has at its end. Those for virtual
# machines ("cloud") are not here: they have no 9p, by which a guest sees this machine.
_REALTIME = "-rt"
FURTHER = {
    f"bookworm{_REALTIME}": "Debian 12's real-time kernel, Linux 6.1",
    f"trixie{_REALTIME}": "Debian 13's real-time kernel, Linux 6.12",
    f"sid{_REALTIME}": "Debian unstable's real-time kernel",
    "bookworm-backports": "A newer kernel for Debian 12",
    "trixie-backports": "A newer kernel for Debian 13",
    "experimental": "The newest kernel that Debian tries out, where it has one",
}
BUILT = {
    "patched": "Built from Debian's Linux 6.1 source: change_pte_range is a symbol",
    "unpatched": "The same source with the optimization of private mappings off",
    "patched-6.12": "Built from Debian's Linux 6.12 source: change_pte_range is a symbol",
    "unpatched-6.12": "The same source with the optimization of private mappings off",
}
KERNELS = {**DEBIAN, **FURTHER, **BUILT}


@dataclass(frozen=True)
class Kernel:
    """A bootable kernel: `root` holds lib/modules/`release` with its modules.dep."""

    name: str
    release: str
    vmlinuz: Path
    root: Path


def package_of(name: str) -> tuple[str, str]:
    """The suite that a kernel of Debian's is in, and the package that points to the newest."""
    suite = name.removesuffix(_REALTIME)
    return suite, f"linux-image{_REALTIME if suite != name else ''}-amd64"


def check_names(names: Iterable[str], known: Iterable[str] = KERNELS) -> None:
    """Raise UsageError for the first name that is not known."""
    known = list(known)
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no kernel `{name}` here.", f"The kernels are {', '.join(known)}."
            )


def in_root(name: str, root: Path) -> Kernel | None:
    """The kernel in an unpacked root, None where it is not whole."""
    for dependencies in root.glob("lib/modules/*/modules.dep"):
        modules = dependencies.parent
        for vmlinuz in (root / "boot" / f"vmlinuz-{modules.name}", modules / "vmlinuz"):
            if vmlinuz.is_file():
                return Kernel(name, modules.name, vmlinuz, root)
    return None
