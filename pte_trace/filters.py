"""Which events are asked for. The filters act inside the kernel; this only describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

COMM_LENGTH = 15


@dataclass(frozen=True)
class Filters:
    """Events pass that satisfy each filter given.

    ``pids``: processes (thread group ids). ``comm``: a process's name as ``ps -o comm``
    shows it. ``cgroup``: a cgroup v2 directory; its descendants are included.
    ``children``: what pte-trace itself starts, and all its descendants.
    """

    pids: tuple[int, ...] = ()
    comm: str | None = None
    cgroup: Path | None = None
    children: bool = False

    @property
    def by_process(self) -> bool:
        return bool(self.pids) or self.children
