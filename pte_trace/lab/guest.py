"""What a guest is given: its size, and what of this machine it may write to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pte_trace.errors import UsageError

_MEMORY = re.compile(r"[1-9][0-9]*[MG]", re.IGNORECASE)
# virtme-ng passes directories on the kernel's command line and accepts these characters.
_DIRECTORY = re.compile(r"[A-Za-z0-9_+/.-]+")
# What the kernel's command line takes as one option, without quotes.
_OPTION = re.compile(r"[A-Za-z0-9_.,=:/+-]+")
_CPUS = 2
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Guest:
    """How a guest is booted. UsageError for a value that no guest can have.

    `cpus` None stands for two, or one with `icount`, which can run no more. `timeout` is in
    seconds from power-on. `rwdirs` are this machine's directories that the guest may change.
    `forwards` lead from ports of this machine's loopback address to ports of the guest. `options`
    are the kernel's, beside those that every guest is booted with. `plugin` is what QEMU's
    `-plugin` is given: a path and, after commas, its arguments. `nodes` is how many NUMA nodes
    share its CPUs and its memory evenly.
    """

    cpus: int | None = None
    memory: str = "4G"
    icount: bool = False
    timeout: float = 600
    rwdirs: tuple[Path, ...] = ()
    network: bool = False
    verbose: bool = False
    forwards: tuple[tuple[int, int], ...] = ()
    options: tuple[str, ...] = ()
    plugin: str | None = None
    nodes: int = 1

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 1:
            raise UsageError(f"A guest cannot have {self.cpus} CPUs.", "Give --cpus 1 or more.")
        if self.icount and (self.cpus or 1) > 1:
            raise UsageError(
                "Instructions can be counted on one CPU only.",
                "Leave out --cpus, or leave out --icount.",
            )
        if not _MEMORY.fullmatch(self.memory):
            raise UsageError(
                f"{self.memory} is not a size of memory.", "Give --memory 512M or 4G, for example."
            )
        if not 0 < self.nodes <= self.cpu_count:
            raise UsageError(
                f"A guest of {self.cpu_count} CPUs cannot have {self.nodes} NUMA nodes.",
                "Each needs a CPU of its own: give more --cpus, or fewer --nodes.",
            )
        if not self.timeout > 0:
            raise UsageError(
                f"A guest cannot end within {self.timeout:g} s.", "Give --timeout 1 or more."
            )
        for directory in self.rwdirs:
            self._check(directory)
        for option in self.options:
            if not _OPTION.fullmatch(option):
                raise UsageError(
                    f"{option!r} is not a kernel option.",
                    "Give letters, digits and _ . , = : / + - only, as in --append preempt=full.",
                )
        for port in (port for forward in self.forwards for port in forward):
            if not 0 < port <= _HIGHEST_PORT:
                raise UsageError(f"{port} is not a port.", "Give one from 1 to 65535.")

    @property
    def cpu_count(self) -> int:
        """How many CPUs the guest has."""
        return 1 if self.icount else self.cpus or _CPUS

    @property
    def megabytes(self) -> int:
        """How much memory the guest has."""
        return int(self.memory[:-1]) * (1024 if self.memory[-1] in "gG" else 1)

    @property
    def only_emulated(self) -> bool:
        """Whether it asks for what QEMU can do under emulation only."""
        return self.icount or self.plugin is not None

    @staticmethod
    def _check(directory: Path) -> None:
        if not directory.is_dir():
            raise UsageError(f"{directory} is not a directory.", "Make it, or name another.")
        if not _DIRECTORY.fullmatch(str(directory.absolute())):
            raise UsageError(
                f"A guest cannot be given {directory.absolute()}.",
                "Use a path of letters, digits and _ + . - only.",
            )
