"""Which events are asked for. The filters act inside the kernel; this only describes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

COMM_LENGTH = 15
# Bytes of a directory's name.
UNIT_LENGTH = 255


@dataclass(frozen=True)
class Filters:
    """Events pass that satisfy each filter given. The owner of the memory is asked, whoever acts.

    ``pids``: processes (thread group ids). ``comm``: a process's name as ``ps -o comm``
    shows it. ``cgroup``: a cgroup v2 directory. ``unit``: a unit of systemd's, ``container``: how
    a container's id begins; what a cgroup is named for. Descendants are included in all three.
    ``children``: what pte-trace itself starts, and all its descendants.
    """

    pids: tuple[int, ...] = ()
    comm: str | None = None
    cgroup: Path | None = None
    children: bool = False
    unit: str | None = None
    container: str | None = None

    @property
    def by_process(self) -> bool:
        return bool(self.pids) or self.children

    @property
    def by_cgroup(self) -> bool:
        return any(each is not None for each in (self.cgroup, self.unit, self.container))
