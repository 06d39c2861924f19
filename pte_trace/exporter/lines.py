"""Who waits for what cannot be done for all at once: origins in turn, of each the newest first.

Who comes in crowds waits for his own. A line that grows is one that will not be worked off; its
newest can still be served in time.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Waiting = TypeVar("Waiting")


class Lines(Generic[Waiting]):
    """One line for each origin."""

    def __init__(self) -> None:
        self._lines: OrderedDict[Hashable, deque[Waiting]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def of(self, origin: Hashable) -> int:
        """How many of *origin* wait."""
        return len(self._lines.get(origin, ()))

    def join(self, origin: Hashable, who: Waiting) -> None:
        self._lines.setdefault(origin, deque()).append(who)

    def next(self) -> Waiting:
        """Whose turn it is, who waits no more. Raises KeyError where nobody waits."""
        origin, line = self._lines.popitem(last=False)
        newest = line.pop()
        if line:
            self._lines[origin] = line
        return newest

    def oldest(self, origin: Hashable) -> Waiting:
        """Who waited longest of *origin*, and waits no more."""
        line = self._lines[origin]
        oldest = line.popleft()
        if not line:
            del self._lines[origin]
        return oldest
