"""Where a process belongs, from the path of its cgroup alone: unit, container, pod."""

from __future__ import annotations

import re
from typing import NamedTuple

_UNIT = re.compile(r"[^/]+\.(?:service|scope|socket|mount|swap)")
# Docker, Podman, CRI-O and containerd, by systemd or by directories of their own: the id is last.
# Without systemd's notion of a slice runc makes "SLICE:PREFIX:ID" of what was meant for it. A
# container's monitor (conmon) is not in the container.
_CONTAINER = re.compile(r"(?:.*(?<!-conmon)[-:])?([0-9a-f]{64})(?:\.scope)?", re.DOTALL)
_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
# Kubernetes by directories, and by systemd, which writes - as _; what comes behind it may be more.
_POD = re.compile(rf"(?:.*kubepods(?:-[a-z]+)?-)?pod({_UID})(?:\.slice(?::.*)?)?", re.DOTALL)
_PODMANS_POD = re.compile(r"(?:.*-)?libpod_pod_([0-9a-f]{64})\.slice", re.DOTALL)

# As `docker ps` shows it.
_ID_SHOWN = 12

# cg_needs_escape() in systemd: a name that the kernel has, or may have, a file of is escaped.
_FILES = re.compile(
    r"[_.]|(?:notify_on_release|release_agent|tasks)$"
    r"|(?:cgroup|cpu|cpuacct|cpuset|io|blkio|memory|devices|pids)\."
)


class Where(NamedTuple):
    """What a cgroup's path names; None for what it does not.

    ``unit``: the innermost of systemd's units, also one of a user's or a container's own.
    ``container``: the innermost container's id. ``pod``: a pod's uid, or Podman's id of it.
    """

    unit: str | None = None
    container: str | None = None
    pod: str | None = None


def where(cgroup: str) -> Where:
    """What the *cgroup*, a path from the root of the hierarchy, is named for."""
    unit = container = pod = None
    for name in cgroup.split("/"):
        unescaped = name.removeprefix("_")
        if _UNIT.fullmatch(unescaped):
            unit = unescaped
        if found := _CONTAINER.fullmatch(name):
            container = found[1]
        if found := _POD.fullmatch(name):
            pod = found[1].replace("_", "-")
        elif found := _PODMANS_POD.fullmatch(name):
            pod = found[1]
    return Where(unit, container, pod)


def short(cgroup: str) -> str:
    """How a person calls where that is: the container, the unit, else the path."""
    found = where(cgroup)
    return found.container[:_ID_SHOWN] if found.container else found.unit or cgroup


def directory_of_unit(unit: str) -> str:
    """How systemd calls the directory of a *unit*."""
    return f"_{unit}" if _FILES.match(unit) else unit
