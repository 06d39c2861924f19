"""One at a time, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

from pte_trace.exporter.lines import Lines


class Turns:
    """For each origin at most *line* wait: the oldest gives way."""

    def __init__(self, line: int) -> None:
        self._line = line
        self._busy = False
        self._waiting: Lines[asyncio.Future[bool]] = Lines()

    async def begin(self, origin: Hashable) -> bool:
        """Returns when it is *origin*'s turn, which `end` ends; false where it will not be."""
        if not self._busy:
            self._busy = True
            return True
        if self._waiting.of(origin) == self._line:
            oldest = self._waiting.oldest(origin)
            if not oldest.done():
                oldest.set_result(False)
        mine: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.join(origin, mine)
        try:
            return await mine
        except asyncio.CancelledError:
            if not mine.cancelled() and mine.result():
                self.end()
            raise

    def end(self) -> None:
        """The next one's turn, of those who still wait."""
        while self._waiting:
            newest = self._waiting.next()
            if not newest.done():
                newest.set_result(True)
                return
        self._busy = False
