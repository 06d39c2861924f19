"""What clients do wrong, in a log that they cannot fill: each kind once, then counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

SAID_AGAIN_S = 600.0


class Wrong(Enum):
    """A kind, and how it is said."""

    NO_HTTP = "A client sent what is no HTTP request"
    NO_TLS = "A client did not bring TLS about"
    SLOW = "A client was sent away as it was too slow"
    CROWD = "More clients came than there is room for; those who took longest were sent away"
    NO_FILE = "No more connections can be opened for a while"
    GUESSING = "A client guesses passwords; its answers are delayed"
    OURS = "A client was not answered for a reason of ours"


@dataclass
class _Heard:
    said_at: float
    since: int = 0


class Complaints:
    """Says a kind with its first particulars, then at most every SAID_AGAIN_S how often it was."""

    def __init__(
        self, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._now = now
        self._heard: dict[Wrong, _Heard] = {}

    def hear(self, wrong: Wrong, particulars: str = "") -> None:
        told = f"{wrong.value}: {particulars}." if particulars else f"{wrong.value}."
        now = self._now()
        heard = self._heard.get(wrong)
        if heard is None:
            self._heard[wrong] = _Heard(now)
            self._tell(f"{told} Others are counted.")
            return
        heard.since += 1
        if now - heard.said_at >= SAID_AGAIN_S:
            self._tell(f"{told} There were {heard.since:,} more of the kind since.")
            self._heard[wrong] = _Heard(now)

    def _tell(self, sentence: str) -> None:
        """Who reads what we say may be gone; we go on."""
        with suppress(OSError):
            self._say(sentence)
