"""The web configuration in force, and whether what it was read from has changed since."""

from __future__ import annotations

import time
from pathlib import Path

from pte_trace.errors import UsageError
from pte_trace.exporter import web_config
from pte_trace.exporter.web_config import Signature, WebConfig

_STAYS = "The web configuration from before stays in force."
_READ_AGAIN = "The web configuration was read again."
# A file's times move in steps of up to 10 ms: another change within one has the same signature.
_STEP_NS = 100_000_000


class WebConfigFile:
    """Raises UsageError where the first one cannot be used. Without a *path*: as it comes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._read_at = time.time_ns()
        self.current = WebConfig() if path is None else web_config.load(path)
        self._problem: str | None = None

    def look(self) -> str | None:
        """Read it again where that may bring another: the sentence to say of it, once.

        What is broken is not taken.
        """
        changed = self._signatures() != self.current.files
        if self._path is None or not (changed or self._problem or self._just_changed()):
            return None
        before, self._problem = self._problem, None
        self._read_at = time.time_ns()
        try:
            self.current = web_config.load(self._path)
        except UsageError as error:
            self._problem = error.what
            return None if before == self._problem else f"{self._problem} {_STAYS}"
        return _READ_AGAIN if changed or before else None

    def _just_changed(self) -> bool:
        """Whether a file was new when it was read: it may have changed at that very moment."""
        return any(
            found and found[-1] > self._read_at - _STEP_NS for found in self.current.files.values()
        )

    def _signatures(self) -> dict[Path, Signature]:
        return {path: web_config.signature(path) for path in self.current.files}
