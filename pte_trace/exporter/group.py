"""What one group of series is about."""

from __future__ import annotations

import re
from typing import NamedTuple

from pte_trace.counted.packed import DELETED
from pte_trace.counted.where import Where, where
from pte_trace.views.cut import cut

# A cgroup's path: Kubernetes has some of 200 bytes.
_LONGEST_PATH = 512
_INODE = re.compile(r"\[inode \d+\]")


class Group(NamedTuple):
    """What one group of series is about, as label values; ``pid`` is empty unless asked for, and
    so are the last four. Of these each one may be.
    """

    comm: str
    kind: str
    mapping: str
    pid: str = ""
    cgroup: str = ""
    unit: str = ""
    container: str = ""
    pod: str = ""


OTHER = Group("other", "other", "other")
PLACE = ("cgroup", *Where._fields)


def mapping_label(name: str) -> str:
    """No path: a file's last component is its name."""
    if _INODE.fullmatch(name):
        return "[file]"
    if name.startswith("/"):
        name = name.removesuffix(DELETED).rpartition("/")[2] or name
    return cut(name)


def place_labels(cgroup: str) -> tuple[str, ...]:
    """Those of PLACE. A path that is not known whole names no unit beyond what is known of it."""
    return cut(cgroup, _LONGEST_PATH), *(cut(each or "") for each in where(cgroup))
